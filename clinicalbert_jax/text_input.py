"""The texts that a command works on: given as arguments, or read from a file or standard input."""

import gzip
import json
import sys
import zlib
from collections.abc import Sequence

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.files import patterns

_JSON_LINES = (".jsonl", ".ndjson")
_TABLES = (".csv", ".json", ".parquet")


def read(arguments: Sequence[str], file: str | None) -> list[str]:
    """The arguments themselves, or the texts of `file` as `read_records` reads them.

    Raises `UserError` where there is neither, or both, or the file cannot be read.
    """
    if bool(arguments) == (file is not None):
        found = "neither" if file is None else "both"
        raise UserError(f"expected texts as arguments or --input=FILE, found {found}")
    if file is None:
        return list(arguments)
    return read_records(file)[1]


def read_records(file: str) -> tuple[list[str], list[str]]:
    """Ids and texts of a file, gzipped or not: of JSON lines the fields `id` and `text`, else lines with their numbers.

    `file` '-' is standard input. Lines that are blank are left out.
    """
    name = file.lower().removesuffix(".gz")
    if name.endswith(_TABLES):
        raise UserError('--input: expected one text a line, or .jsonl of {"id": ..., "text": ...}, found a table')
    if not name.endswith(_JSON_LINES):
        lines = _numbered(file)
        return [str(number) for number, _ in lines], [line for _, line in lines]
    ids, texts = [], []
    for number, line in _numbered(file):
        try:
            record = json.loads(line)
            id_, text = record.get("id", number), record["text"]
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            id_ = text = None
        if not isinstance(text, str) or not isinstance(id_, str | int):
            raise UserError(f'--input: expected {{"id": ..., "text": "..."}} on line {number}, found otherwise')
        ids.append(str(id_))
        texts.append(text)
    return ids, texts


def _numbered(file: str) -> list[tuple[int, str]]:
    # Only a line end ends a line: notes hold form feeds and other characters at which `str.splitlines` splits.
    content = _content(file).replace("\r\n", "\n").replace("\r", "\n")
    lines = [(n, line) for n, line in enumerate(content.split("\n"), start=1) if line.strip()]
    if not lines:
        raise UserError("--input: expected one text a line, found none")
    return lines


def _content(file: str) -> str:
    try:
        data = sys.stdin.buffer.read() if file == "-" else patterns.expanded(file).read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
        content = data.decode("utf-8-sig")  # without the byte-order mark of Windows programs
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"--input: expected a text file, found none ({type(error).__name__})") from None
    except UnicodeDecodeError:
        raise UserError("--input: expected text in UTF-8, found other bytes: convert the file") from None
    if "\0" in content:
        raise UserError("--input: expected text in UTF-8, found zero bytes, as of UTF-16: convert the file")
    return content
