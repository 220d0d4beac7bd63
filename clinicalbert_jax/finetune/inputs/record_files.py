"""Records of CSV, TSV and JSON-lines files, plain or gzipped, each with the line it begins on."""

import contextlib
import csv
import gzip
import json
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import IO, Any, cast

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords

_SEPARATORS = {".csv": ",", ".tsv": "\t"}
_JSON_LINES = (".jsonl", ".ndjson")
# A longer field is no text but a quotation mark that was never closed.
_MAX_FIELD_CHARACTERS = 1 << 27

Record = dict[str, Any]


def read(path: Path, required: Sequence[str], bad: BadRecords) -> Iterator[tuple[int, Record]]:
    """Each record that has the `required` fields, with its line, in the file's order; others go to `bad`.

    Raises `UserError` for a file of another kind, one that cannot be read, and a table without a required column.
    """
    suffix = PurePath(path.name.lower().removesuffix(".gz")).suffix
    if suffix in _SEPARATORS:
        with opened(path, newline="") as file:
            yield from _table(path, file, _SEPARATORS[suffix], required, bad)
    elif suffix in _JSON_LINES:
        with opened(path, newline="\n") as file:
            yield from _json_lines(path, file, required, bad)
    else:
        raise UserError(f"{path}: expected a file ending in .csv, .tsv or .jsonl (or one of these with .gz)")


@contextlib.contextmanager
def opened(path: Path, newline: str) -> Iterator[IO[str]]:
    """A UTF-8 text file, gunzipped where its name ends in .gz. What is not UTF-8 becomes lone surrogates.

    Raises `UserError` where there is no such file, and where it turns out damaged.
    """
    if not path.is_file():
        raise UserError(f"expected a file, found none at {path}")
    try:
        if path.name.lower().endswith(".gz"):
            with gzip.open(path, "rt", encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
                yield cast(IO[str], file)
        else:
            with path.open(encoding="utf-8-sig", errors="surrogateescape", newline=newline) as file:
                yield file
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UserError(f"{path}: damaged ({type(error).__name__}): restore it from a copy") from None


def is_text(value: Any) -> bool:
    """Whether a field holds something to read: a string of Unicode with a character that is not white space."""
    if not isinstance(value, str) or not value.strip():
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _table(
    path: Path, file: IO[str], separator: str, required: Sequence[str], bad: BadRecords
) -> Iterator[tuple[int, Record]]:
    csv.field_size_limit(_MAX_FIELD_CHARACTERS)
    reader = csv.reader(file, delimiter=separator, strict=True)
    header = None
    while True:
        line = reader.line_num + 1
        try:
            values = next(reader)
        except StopIteration:
            return
        except csv.Error:  # its message may quote the text
            bad.found(path, line, "expected quotation marks around a whole field, doubled inside it, found otherwise")
            continue
        if not values:  # a blank line
            continue
        if header is None:
            header = values
            _check_header(path, header, required)
        elif len(values) != len(header):
            bad.found(path, line, f"expected {len(header)} fields as in the header, found {len(values)}")
        else:
            yield line, dict(zip(header, values, strict=True))


def _check_header(path: Path, header: list[str], required: Sequence[str]) -> None:
    # The names found are not shown: in a table without a header they would be a record.
    for name in required:
        if header.count(name) != 1:
            found = "none" if name not in header else "several"
            raise UserError(
                f"{path}, line 1: expected a column named {name!r} among the {len(header)} there, found {found}: "
                "name the columns in the task's settings"
            )


def _json_lines(path: Path, file: IO[str], required: Sequence[str], bad: BadRecords) -> Iterator[tuple[int, Record]]:
    for number, line in enumerate(file, start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except (ValueError, RecursionError):  # its message may quote the text
            record = None
        if not isinstance(record, dict):
            bad.found(path, number, "expected one JSON object, found otherwise")
        elif missing := [name for name in required if name not in record]:
            bad.found(path, number, f"expected a field named {missing[0]!r}, found none")
        else:
            yield number, record
