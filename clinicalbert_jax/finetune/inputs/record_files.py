"""Records of CSV, TSV, JSON-lines and JSON files, plain or gzipped, each with the line it begins on."""

import csv
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs.reading import TABLES, Reading, suffix
from data_prep.reading import csv_rows

JSON = (".jsonl", ".ndjson", ".json")

Record = dict[str, Any]


def read(path: Path, required: Sequence[str], reading: Reading) -> Iterator[tuple[int, Record]]:
    """Each record that has the `required` fields ('' is none), with its line, in the file's order.

    A `.json` file holds one array of records. Raises `UserError` for a file of another kind, one that cannot be read,
    and a table without a required column.
    """
    kind, required = suffix(path), [name for name in required if name]
    if kind in TABLES:
        with reading.opened(path, newline="") as file:
            yield from _table(path, file, required, reading)
    elif kind in JSON:
        with reading.opened(path, newline="\n") as file:
            records = _array(path, file.read()) if kind == ".json" else _lines(file)
            yield from _objects(path, records, required, reading)
    else:
        kinds = ", ".join([*TABLES, *JSON])
        raise UserError(f"{path}: expected a file ending in {kinds} (or one of these with .gz)")


def read_table(path: Path, required: Sequence[str], reading: Reading) -> Iterator[tuple[int, Record]]:
    """Each row of a CSV or TSV table of a database, by the lower-case names of its columns, with its line.

    Databases differ in the case of the names. Raises `UserError` as `read` does.
    """
    with reading.opened(path, newline="") as file:
        yield from _table(path, file, required, reading, of_database=True)


def is_text(value: Any) -> bool:
    """Whether a field holds something to read: a string of Unicode with a character that is not white space.

    Zeros are not: they stand in UTF-16 that is read as UTF-8.
    """
    if not isinstance(value, str) or not value.strip() or "\0" in value:
        return False
    try:
        value.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def _table(
    path: Path, file: IO[str], required: Sequence[str], reading: Reading, of_database: bool = False
) -> Iterator[tuple[int, Record]]:
    delimiter = reading.delimiter(path)
    rows = csv_rows.rows(file, delimiter, reading.csv_quoting, reading.csv_escape)
    header = None
    while True:
        line = rows.line_num + 1
        try:
            values = next(rows)
        except StopIteration:
            return
        except csv.Error:  # its message may quote the text
            problem = "expected quotation marks around a whole field, doubled inside it, found otherwise"
            reading.found(path, line, problem, malformed=True)
            continue
        if not values:  # a blank line
            continue
        if header is None:
            header = [name.strip().lower() for name in values] if of_database else values
            advice = (
                "restore the table as it was published" if of_database else "name the columns in the task's settings"
            )
            _check_header(path, header, required, reading, advice)
        elif len(values) != len(header):
            problem = f"expected {len(header)} fields as in the header, found {len(values)}"
            reading.found(path, line, problem, malformed=True)
        elif reading.csv_quoting == "auto" and csv_rows.is_merged(values, delimiter):
            problem = "expected one row, found what looks like several, merged by quotation marks: give "
            problem += "--csv_quoting=none if these are part of the text, else --csv_quoting=doubled"
            reading.found(path, line, problem)
        else:
            yield line, dict(zip(header, values, strict=True))


def _check_header(path: Path, header: list[str], required: Sequence[str], reading: Reading, advice: str) -> None:
    # The names found are not shown: in a table without a header they would be a record.
    for name in required:
        if header.count(name) != 1:
            found = csv_rows.not_one_column(name, header)
            raise UserError(
                f"{path}, line 1: expected a column named {name!r} among the {len(header)} there, found {found}: "
                f"{advice} ({reading.cause(path)})"
            )


def _objects(
    path: Path, values: Iterator[tuple[int, Any]], required: Sequence[str], reading: Reading
) -> Iterator[tuple[int, Record]]:
    for line, value in values:
        if not isinstance(value, dict):
            reading.found(path, line, "expected one JSON object, found otherwise", malformed=True)
        elif missing := [name for name in required if name not in value]:
            reading.found(path, line, f"expected a field named {missing[0]!r}, found none")
        else:
            yield line, value


def _lines(file: IO[str]) -> Iterator[tuple[int, Any]]:
    for number, line in enumerate(file, start=1):
        if line.strip():
            try:
                yield number, json.loads(line)
            except (ValueError, RecursionError):  # its message may quote the text
                yield number, None


def _array(path: Path, content: str) -> Iterator[tuple[int, Any]]:
    decoder = json.JSONDecoder()
    position, line, counted = _skip(content, 0), 1, 0
    if content[position : position + 1] != "[":
        raise UserError(f"{path}: expected one JSON array, found otherwise; name a file of JSON lines .jsonl")
    position = _skip(content, position + 1)
    while content[position : position + 1] != "]":
        line, counted = line + content.count("\n", counted, position), position
        try:
            value, position = decoder.raw_decode(content, position)
        except (ValueError, RecursionError):  # its message may quote the text; where the next begins cannot be known
            raise UserError(f"{path}, line {line}: expected a JSON object, found what cannot be read") from None
        yield line, value
        position = _skip(content, position)
        if content[position : position + 1] == ",":
            position = _skip(content, position + 1)
        elif content[position : position + 1] != "]":
            raise UserError(f"{path}: expected ',' or ']' after the record that begins on line {line}, found otherwise")


def _skip(content: str, position: int) -> int:
    while position < len(content) and content[position] in " \t\r\n":
        position += 1
    return position
