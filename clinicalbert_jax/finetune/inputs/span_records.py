"""JSON records of a text with typed spans of its characters: what entities and relations have in common."""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path, PurePath
from typing import Any

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.bad_records import BadRecords
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.tags import Span


class ProblemError(Exception):
    """What is wrong with one record, in words that hold no text of it."""


def suffix(path: Path) -> str:
    """How a file's name ends, in small letters and without '.gz'."""
    return PurePath(path.name.lower().removesuffix(".gz")).suffix


def records(path: Path, required: Sequence[str], bad: BadRecords) -> Iterator[tuple[int, Record]]:
    """Each JSON object of a `.jsonl` file, or of the one array in a `.json` file, with the line it begins on."""
    if suffix(path) == ".json":
        yield from _array(path, required, bad)
    else:
        yield from record_files.read(path, required, bad)


def read_id(record: Record, line: int, seen: set[str]) -> str:
    """The record's id, its line where it has none; raises `ProblemError` for one that is already in `seen`."""
    value = record.get("id", line)
    if isinstance(value, bool) or not (isinstance(value, int) or is_label(value)):
        raise ProblemError("expected an id that is one line or a whole number, found otherwise")
    if str(value) in seen:
        raise ProblemError("expected an id of its own, found that of an earlier record")
    seen.add(str(value))
    return str(value)


def read_text(record: Record) -> str:
    """The record's text; raises `ProblemError`."""
    if not record_files.is_text(record["text"]):
        raise ProblemError("expected a text in the field 'text', found otherwise")
    return record["text"]


def read_patient(record: Record) -> str:
    """Whom the record is about, '' where it does not say; raises `ProblemError`."""
    value = record.get("patient", "")
    if isinstance(value, bool) or not (isinstance(value, int) or value == "" or is_label(value)):
        raise ProblemError("expected a patient that is one line or a whole number, found otherwise")
    return str(value)


def read_span(value: Any, text: str, what: str, label_field: str) -> Span:
    """`{"start": ..., "end": ..., LABEL_FIELD: ...}` with offsets inside the text; raises `ProblemError`.

    Where it also has a "text", that must be what stands at its offsets.
    """
    fields = ("start", "end", label_field)
    if not isinstance(value, dict) or any(field not in value for field in fields):
        raise ProblemError(f"expected {what} with {', '.join(map(repr, fields))}, found otherwise")
    start, end, label = (value[field] for field in fields)
    if type(start) is not int or type(end) is not int:
        raise ProblemError(f"expected whole numbers as offsets of {what}, found otherwise")
    if not 0 <= start < end <= len(text):
        raise ProblemError(
            f"expected {what} inside its text of {len(text)} characters, found characters {start} to {end}"
        )
    if not is_label(label):
        raise ProblemError(f"expected a name in the field {label_field!r} of {what}, found otherwise")
    if "text" in value and value["text"] != text[start:end]:
        raise ProblemError(f"expected the text of {what} at its offsets {start} to {end}, found another text there")
    return Span(start, end, label)


def is_label(value: Any) -> bool:
    """Whether this can be a label: a string of one line without white space around it."""
    return record_files.is_text(value) and value == value.strip() and not any(c in value for c in "\t\r\n")


def _array(path: Path, required: Sequence[str], bad: BadRecords) -> Iterator[tuple[int, Record]]:
    with record_files.opened(path, newline="\n") as file:
        content = file.read()
    decoder = json.JSONDecoder()
    place, line, counted = _skip(content, 0), 1, 0
    if content[place : place + 1] != "[":
        raise UserError(f"{path}: expected one JSON array, found otherwise; name a file of JSON lines .jsonl")
    place = _skip(content, place + 1)
    while content[place : place + 1] != "]":
        line, counted = line + content.count("\n", counted, place), place
        try:
            record, place = decoder.raw_decode(content, place)
        except (ValueError, RecursionError):  # its message may quote the text; where the next begins cannot be known
            raise UserError(f"{path}, line {line}: expected a JSON object, found what cannot be read") from None
        if not isinstance(record, dict):
            bad.found(path, line, "expected one JSON object, found otherwise")
        elif missing := [name for name in required if name not in record]:
            bad.found(path, line, f"expected a field named {missing[0]!r}, found none")
        else:
            yield line, record
        place = _skip(content, place)
        if content[place : place + 1] == ",":
            place = _skip(content, place + 1)
        elif content[place : place + 1] != "]":
            raise UserError(f"{path}: expected ',' or ']' after the record that begins on line {line}, found otherwise")


def _skip(content: str, place: int) -> int:
    while place < len(content) and content[place] in " \t\r\n":
        place += 1
    return place
