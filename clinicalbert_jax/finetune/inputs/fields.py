"""The fields of one record: texts, names (ids, labels, patients), numbers and spans. Each raises `BadRecord`."""

import math
from typing import Any

from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.tags import Span

_LONGEST_NAME = 200  # characters; what is longer is text in the wrong field
# As programs write them. Not 'None' or 'NA', which may be labels.
_MISSING = ("NaN", "nan", "<NA>", "NULL", r"\N")


def text(record: Record, field: str) -> str:
    """The text in a field."""
    if not record_files.is_text(record.get(field)):
        raise BadRecord(f"expected a text in UTF-8 in the field {field!r}, found none")
    return record[field]


def name(record: Record, field: str) -> str:
    """An id, a label or a patient: one line of text, a whole number, true or false; without spaces around it."""
    value = record.get(field)
    if isinstance(value, bool):
        value = str(value).lower()
    value = str(value).strip() if isinstance(value, str | int) else ""
    if value in _MISSING:
        raise BadRecord(f"expected a name in the field {field!r}, found a missing value such as NaN or NULL")
    if not record_files.is_text(value) or len(value) > _LONGEST_NAME or any(c in value for c in "\t\r\n"):
        raise BadRecord(
            f"expected a name in the field {field!r} (one line of 1 to {_LONGEST_NAME} characters, or a whole "
            "number), found otherwise"
        )
    return value


def number(record: Record, field: str) -> float:
    """A number, or text that says one."""
    value = record.get(field)
    try:
        found = float(value) if isinstance(value, str | int | float) and not isinstance(value, bool) else math.nan
    except ValueError:
        found = math.nan
    if not math.isfinite(found):
        raise BadRecord(f"expected a number in the field {field!r}, found otherwise")
    return found


def identifier(record: Record, default: str, field: str = "id") -> str:
    """The record's id, `default` where it has no such field."""
    return name(record, field) if field in record else default


def patient(record: Record, column: str, what: str = "a patient") -> str:
    """Whom the record is about in the one spelling of `patients.identifier`; '' where no column is named.

    `what` else the column identifies, such as a stay in hospital, has one spelling as well.
    """
    if not column:
        return ""
    try:
        found = patients.identifier(record.get(column))
    except UserError as error:
        raise BadRecord(str(error)) from None
    if not record_files.is_text(found) or len(found) > _LONGEST_NAME:
        raise BadRecord(f"expected the identifier of {what} in the field {column!r}, found none")
    return found


def optional_patient(record: Record) -> str:
    """`patient` of the field 'patient', which a record need not have."""
    return patient(record, "patient" if "patient" in record else "")


def span(value: Any, text: str | None, what: str, label_field: str) -> Span:
    """`{"start": ..., "end": ..., LABEL_FIELD: ...}` with offsets inside the text (None: the record has none).

    Where it also has a "text", that must be what stands at its offsets.
    """
    required = ("start", "end", label_field)
    if not isinstance(value, dict) or any(field not in value for field in required):
        raise BadRecord(f"expected {what} with {', '.join(map(repr, required))}, found otherwise")
    start, end = value["start"], value["end"]
    if type(start) is not int or type(end) is not int:
        raise BadRecord(f"expected whole numbers as offsets of {what}, found otherwise")
    if not 0 <= start < end <= (end if text is None else len(text)):
        inside = "that begins before its end" if text is None else f"inside its text of {len(text)} characters"
        raise BadRecord(f"expected {what} {inside}, found characters {start} to {end}")
    if text is not None and "text" in value and value["text"] != text[start:end]:
        raise BadRecord(f"expected the text of {what} at its offsets {start} to {end}, found another text there")
    return Span(start, end, name(value, label_field))
