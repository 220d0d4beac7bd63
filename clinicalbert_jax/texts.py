"""The texts that a command works on: given as arguments, or read from a file or standard input."""

import json
import sys
from collections.abc import Sequence
from pathlib import Path

from clinicalbert_jax.errors import UserError


def read(arguments: Sequence[str], file: str | None) -> list[str]:
    """The arguments themselves, or the lines of `file` ('-': standard input) that are not blank.

    Raises `UserError` where there is neither, or both, or the file cannot be read.
    """
    if bool(arguments) == (file is not None):
        found = "neither" if file is None else "both"
        raise UserError(f"expected texts as arguments or --input=FILE, found {found}")
    if file is None:
        return list(arguments)
    lines = [line for line in _content(file).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"--input={file}: expected one text a line, found none")
    return lines


def read_records(file: str) -> tuple[list[str], list[str]]:
    """Ids and texts: of a `.jsonl` file the fields `id` and `text` of each line, else each line with its number."""
    if not file.endswith(".jsonl"):
        lines = read([], file)
        return [str(number) for number in range(1, len(lines) + 1)], lines
    ids, texts = [], []
    for number, line in enumerate(_content(file).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
            text = record["text"]
            ids.append(str(record.get("id", number)))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = None
        if not isinstance(text, str):
            raise UserError(f'--input={file}: expected {{"id": ..., "text": "..."}} on line {number}, found otherwise')
        texts.append(text)
    if not texts:
        raise UserError(f"--input={file}: expected one text a line, found none")
    return ids, texts


def _content(file: str) -> str:
    try:
        return sys.stdin.read() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--input={file}: expected a UTF-8 text file, found none ({type(error).__name__})") from None
