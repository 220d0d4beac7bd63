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
    return [line for _, line in _numbered(file)]


def read_records(file: str) -> tuple[list[str], list[str]]:
    """Ids and texts: of a `.jsonl` file the fields `id` and `text` of each line, else each line with its number."""
    if not file.endswith(".jsonl"):
        lines = _numbered(file)
        return [str(number) for number, _ in lines], [line for _, line in lines]
    ids, texts = [], []
    for number, line in _numbered(file):
        try:
            record = json.loads(line)
            text = record["text"]
            ids.append(str(record.get("id", number)))
        except (ValueError, KeyError, TypeError, AttributeError):
            text = None
        if not isinstance(text, str):
            raise UserError(f'--input={file}: expected {{"id": ..., "text": "..."}} on line {number}, found otherwise')
        texts.append(text)
    return ids, texts


def _numbered(file: str) -> list[tuple[int, str]]:
    # Only a line end ends a line: notes hold form feeds and other characters at which `str.splitlines` splits.
    lines = [(n, line) for n, line in enumerate(_content(file).split("\n"), start=1) if line.strip()]
    if not lines:
        raise UserError(f"--input={file}: expected one text a line, found none")
    return lines


def _content(file: str) -> str:
    try:
        content = sys.stdin.read() if file == "-" else Path(file).expanduser().read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"--input={file}: expected a UTF-8 text file, found none ({type(error).__name__})") from None
    return content.removeprefix("\ufeff")  # the byte-order mark of Windows programs
