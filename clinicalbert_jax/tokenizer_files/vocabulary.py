"""The WordPiece vocabulary in a directory of tokenizer files."""

import json
from pathlib import Path
from typing import NamedTuple

from clinicalbert_jax.errors import UserError

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")


class WordPieces(NamedTuple):
    """Entries by id, and whether text is lower-cased first (None where the files do not say)."""

    entries: list[str]
    do_lower_case: bool | None


def read(directory: Path) -> WordPieces | None:
    """The vocabulary in a model's or a tokenizer's directory, or None where there is none."""
    tokenizer = read_json(directory / "tokenizer.json")
    lower = read_json(directory / "tokenizer_config.json").get("do_lower_case")
    if lower is None:
        lower = (tokenizer.get("normalizer") or {}).get("lowercase")
    if (directory / "vocab.txt").exists():
        try:
            text = (directory / "vocab.txt").read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"{directory / 'vocab.txt'} cannot be read ({type(error).__name__})") from None
        return WordPieces([line.rstrip("\r") for line in text.removesuffix("\n").split("\n")], lower)
    entries = tokenizer.get("model", {}).get("vocab")
    if isinstance(entries, dict) and tokenizer["model"].get("type") == "WordPiece":
        return WordPieces(sorted(entries, key=entries.__getitem__), lower)
    return None


def read_json(path: Path) -> dict:
    """The object in a JSON file, empty where there is no such file; raises `UserError` where it is damaged."""
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise UserError(f"{path} cannot be read ({type(error).__name__}): restore it from a copy") from None
    return document if isinstance(document, dict) else {}
