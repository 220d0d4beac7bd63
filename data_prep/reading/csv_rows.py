"""Rows of CSV and TSV files, and the probable cause where many of them are malformed."""

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from clinicalbert_jax.errors import UserError

QUOTINGS = ("auto", "doubled", "none")
ESCAPES = ("none", "backslash")

MAX_NOTE_CHARACTERS = 1 << 27  # what is longer is not a note but an unclosed quotation mark
_DELIMITERS = {"tab": "\t", ";": ";", "|": "|", ",": ","}
_ESCAPED = re.compile(r'\\(["\\\r\n])')


def delimiter_of(given: str, url: str) -> str:
    """The character between fields: `given` ('tab' for a tab), or the one that the file's name says."""
    by_name = "\t" if url.lower().removesuffix(".gz").endswith(".tsv") else ","
    return _DELIMITERS.get(given, given) or by_name


def check_options(delimiter: str, quoting: str, escape: str) -> None:
    """Raise `UserError` for options that read no file."""
    if len(_DELIMITERS.get(delimiter, delimiter)) > 1 or delimiter in ('"', "\n", "\r"):
        raise UserError("--csv_delimiter: expected one character, or 'tab', found something else")
    if quoting not in QUOTINGS:
        raise UserError(f"--csv_quoting: expected one of {', '.join(QUOTINGS)}, found {quoting!r}")
    if escape not in ESCAPES:
        raise UserError(f"--csv_escape: expected one of {', '.join(ESCAPES)}, found {escape!r}")
    if escape == "backslash" and quoting == "none":
        raise UserError("--csv_escape=backslash is for quoted fields: leave out --csv_quoting=none")


def rows(lines: Iterable[str], delimiter: str, quoting: str, escape: str) -> Any:
    """A `csv.reader` of `lines`; raises `csv.Error` for a row that breaks the rules."""
    csv.field_size_limit(MAX_NOTE_CHARACTERS)
    if quoting == "none":
        return csv.reader(lines, delimiter=delimiter, quoting=csv.QUOTE_NONE, strict=True)
    return csv.reader(_unescaped(lines) if escape == "backslash" else lines, delimiter=delimiter, strict=True)


def _unescaped(lines: Iterable[str]) -> Iterator[str]:
    # Not csv's own `escapechar`, which takes the backslash from everything, such as \N and mg\kg.
    for line in lines:
        yield _ESCAPED.sub(lambda found: '""' if found[1] == '"' else found[1], line) if "\\" in line else line


def is_merged(row: Sequence[str], delimiter: str) -> bool:
    """Whether a row looks like several, which a quotation mark that is part of the text has merged.

    Then each line of one of its fields has the delimiters that a whole row, or its beginning or end, would have.
    """
    for column, value in enumerate(row):
        if "\n" in value:
            lines, between = value.split("\n"), len(row) - 1
            expected = [between - column, *[between] * (len(lines) - 2), column]
            return (
                sum(expected) > 0
                and all(map(str.strip, lines))  # white space alone is no row
                and f"{delimiter} " not in value  # as in a sentence, not between fields
                and all(line.count(delimiter) == count for line, count in zip(lines, expected, strict=True))
            )
    return False


def probable_cause(sample: str, delimiter: str, escape: str) -> str:
    """Why the file that begins with `sample` has malformed rows, and the option that reads it; '' where unknown."""
    if found := cause_in_header(sample, delimiter):
        return found
    if escape == "none" and '\\"' in sample:
        return "probably quotation marks that are escaped by a backslash: give --csv_escape=backslash"
    if '"' in sample:
        return "probably quotation marks that are part of the text: give --csv_quoting=none if they quote no field"
    return "probably another encoding: give --encoding" if "\ufffd" in sample else ""


def not_one_column(name: str, header: Sequence[str]) -> str:
    """What a `header` has instead of one column `name`, without quoting it."""
    if name in header:
        return "several"
    is_alike = any(other.strip().lower() == name.strip().lower() for other in header)
    return "one that differs by white space or case" if is_alike else "none"


def cause_in_header(sample: str, delimiter: str) -> str:
    """As `probable_cause`, as far as the first line tells it."""
    header = sample.split("\n", 1)[0]
    other = max(_DELIMITERS, key=lambda name: header.count(_DELIMITERS[name]))
    if "\0" in header or header.count("\ufffd") > 1:
        return "probably another encoding, such as UTF-16: give --encoding=utf-16 or the right one"
    if header.count(_DELIMITERS[other]) > header.count(delimiter):
        return f"probably another delimiter: give --csv_delimiter={other!r}"
    return ""
