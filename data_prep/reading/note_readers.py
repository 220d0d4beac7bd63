"""The notes of one file: a reader for each format.

What cannot be read as a note is counted by reason. A file that cannot be read to its end, or of which more than a small
fraction is malformed, is a `UserError`. No message holds a cell: the errors of csv, json and pyarrow quote the
offending line, so they are never passed on.
"""

import csv
import math
import re
import struct
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from clinicalbert_jax.data.patients import RoundedIdentifierError, identifier
from clinicalbert_jax.errors import UserError
from data_prep.reading import csv_rows, files
from data_prep.reading.sources import Source, SourceConfig, cause_in_json, own_columns, parse_json, rows_of_csv

NO_CATEGORY = "uncategorised"

# What the `note_type` of MIMIC-IV-Note stands for.
MIMIC_IV_CATEGORIES = {
    "DS": "Discharge summary",
    "AD": "Discharge summary addendum",
    "RR": "Radiology",
    "AR": "Radiology addendum",
}

_NO_ERROR = ("", "0", "f", "false")  # of ISERROR; as MIMIC-III has it, 1 or nothing

_ISO_TIME = re.compile(r"\d{4}-\d\d(-\d\d([ T]\d\d:\d\d.{0,22})?)?")
_UNREADABLE_TIME = "\uffff"


@dataclass(frozen=True, slots=True)
class Note:
    """One note as read: `time` sorts as text (see `sortable_time`), `patient_id` is the source's own identifier."""

    row_id: str
    patient_id: str
    time: str
    category: str
    text: str


def read(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    """The notes of one file in its order; rows that are not notes are counted in `counts` by reason.

    Raises `UserError` when the file cannot be read to its end, or more than one row and more than
    `max_malformed_fraction` of the rows are malformed or hold undecodable bytes.
    """
    readers = {"mimic_iii": _read_csv, "mimic_iv": _read_csv, "csv": _read_csv, "jsonl": _read_jsonl}
    readers |= {"parquet": _read_parquet, "text": _read_text, "sentences": _read_sentences}
    before, malformed = counts.total(), counts["malformed row"]
    num_notes = num_undecodable = num_untimed = 0
    try:
        for note in readers[source.format](source, config, counts):
            num_notes += 1
            num_undecodable += is_undecodable(note)
            num_untimed += note.time == _UNREADABLE_TIME
            yield note
    except RoundedIdentifierError as error:
        raise UserError(f"{source.label}: {error}") from None
    num_rows = num_notes + counts.total() - before
    malformed = counts["malformed row"] - malformed
    if malformed > max(1, config.max_malformed_fraction * num_rows):
        raise UserError(
            f"{source.label}: {malformed:,} of {num_rows:,} rows are malformed, {_probable_cause(source, config)}, or "
            "allow them by --max_malformed_fraction"
        )
    if source.format != "parquet" and num_undecodable > max(1, config.max_malformed_fraction * num_rows):
        raise UserError(
            f"{source.label}: {num_undecodable:,} of {num_rows:,} notes hold undecodable bytes, probably since the "
            f"file is not in {config.encoding}: give --encoding (such as cp1252), or allow them by "
            "--max_malformed_fraction"
        )
    if num_untimed > max(1, config.max_malformed_fraction * num_rows):
        raise UserError(
            f"{source.label}: {num_untimed:,} of {num_rows:,} notes have a time that is neither a number nor a date of "
            "the form 2130-05-31, with or without 13:05:00 behind it, so that a patient's notes cannot be ordered: "
            "write the times so, or allow them by --max_malformed_fraction"
        )


def is_undecodable(note: Note) -> bool:
    """Whether a note holds bytes that are invalid in the encoding, or zeros, as where UTF-16 is read as UTF-8."""
    return "\ufffd" in note.text or "\0" in note.text


def sortable_time(value: Any) -> str:
    """A time as text whose order is that of time: ISO dates, or numbers as in a pandas index; '' where there is none.

    Notes whose time is neither come after all others of their patient.
    """
    text = "" if value is None else str(value).strip()
    if not text or _ISO_TIME.fullmatch(text):
        return text.replace("T", " ")
    try:
        number = float(text) + 0.0  # -0.0 becomes 0.0, which it equals
    except ValueError:
        return _UNREADABLE_TIME
    if math.isnan(number):
        return ""
    (bits,) = struct.unpack(">Q", struct.pack(">d", number))
    # The bits of positive floats are ordered as the numbers are, those of negative ones the other way round.
    return f"n{bits ^ (2**64 - 1 if bits >> 63 else 2**63):016x}"


def _probable_cause(source: Source, config: SourceConfig) -> str:
    if source.format == "parquet":
        return "probably since --text_column holds no text: name another column"
    with files.reading_text(source.url, source.label, config.encoding, newline="") as text:
        sample = text.read(1 << 20)
    if source.format != "jsonl":
        delimiter = csv_rows.delimiter_of(config.csv_delimiter, source.url)
        return csv_rows.probable_cause(sample, delimiter, config.csv_escape) or (
            "probably line breaks or delimiters in fields without quotation marks: write the file again with all "
            "fields quoted"
        )
    return cause_in_json(sample) or "probably since an object spans several lines, or --text_column holds no text"


def _read_csv(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    with files.reading_text(source.url, source.label, config.encoding, newline="") as text:
        rows = rows_of_csv(text, source, config)
        delimiter = csv_rows.delimiter_of(config.csv_delimiter, source.url)
        header: list[str] = next(rows, [])
        if source.format != "csv":
            header = [name.lower() for name in header]
        record_to_note = _mimic_rows(header, source, config) if source.format != "csv" else None
        pick = _picker(header, config) if record_to_note is None else None
        width = len(header)
        number = num_merged = 0
        while True:
            line = rows.line_num
            try:
                row = next(rows)
            except StopIteration:
                break
            except csv.Error:
                # A stray quotation mark. Rows may lie between it and where the reader noticed, so lines are counted.
                # It starts afresh on the next one, and what is left of the broken note has too few columns: that too
                # is counted line by line until the next whole row.
                counts["malformed row"] += rows.line_num - line
                continue
            if not row:
                continue
            number += 1
            if len(row) != width:
                counts["malformed row"] += 1
                continue
            if record_to_note is not None:
                note, reason = record_to_note(row)
            else:
                assert pick is not None
                note, reason = _own_note(pick(row), source, config, number)
            num_merged += csv_rows.is_merged(row[:width], delimiter)
            if note is None:
                counts[reason] += 1
            else:
                yield note
        if config.csv_quoting == "auto" and num_merged > config.max_malformed_fraction * number:
            raise UserError(
                f"{source.label}: {num_merged:,} of {number:,} rows look like several rows merged by quotation marks: "
                "if these are part of the text, give --csv_quoting=none, else --csv_quoting=doubled"
            )


def _mimic_rows(header: list[str], source: Source, config: SourceConfig) -> Any:
    """A function from a row of a MIMIC file to (note, ''), or to (None, why not)."""
    column = {name: header.index(name) for name in header}
    missing = len(header)

    def at(name: str) -> int:
        return column.get(name, missing)

    if source.format == "mimic_iii":
        row_id, patient, category, text = at("row_id"), at("subject_id"), at("category"), at("text")
        time, date, error = at("charttime"), at("chartdate"), at("iserror")

        def mimic_iii(row: list[str]) -> tuple[Note | None, str]:
            row.append("")  # what an absent column holds
            if row[error] and identifier(row[error]).lower() not in _NO_ERROR:
                return None, "marked as error"
            if not (whose := identifier(row[patient])):
                return None, "no patient"
            when = sortable_time(row[time]) or sortable_time(row[date])
            return Note(identifier(row[row_id]), whose, when, identifier(row[category]) or NO_CATEGORY, row[text]), ""

        return mimic_iii

    row_id, patient, category, text = at("note_id"), at("subject_id"), at("note_type"), at("text")
    time = at("charttime")

    def mimic_iv(row: list[str]) -> tuple[Note | None, str]:
        row.append("")
        if not (whose := identifier(row[patient])):
            return None, "no patient"
        kind = identifier(row[category])
        kind = MIMIC_IV_CATEGORIES.get(kind, kind) or NO_CATEGORY
        return Note(identifier(row[row_id]), whose, sortable_time(row[time]), kind, row[text]), ""

    return mimic_iv


def _picker(header: list[str], config: SourceConfig) -> Any:
    """A function from a row to its (text, patient, id, time, category), None where no column was named."""
    columns = [header.index(name) if name else None for name in own_columns(config)]
    return lambda row: [None if column is None else row[column] for column in columns]


def _read_jsonl(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    columns = own_columns(config)
    with files.reading_text(source.url, source.label, config.encoding, newline="\n") as text:
        for number, line in enumerate(text, 1):
            if line.isspace():
                continue
            record = parse_json(line)
            if record is None:
                counts["malformed row"] += 1
                continue
            note, reason = _own_note([record.get(c) if c else None for c in columns], source, config, number)
            if note is None:
                counts[reason] += 1
            else:
                yield note


def _read_parquet(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    columns = own_columns(config)
    number = 0
    with files.parquet(source.url, source.label) as file:
        for batch in file.iter_batches(batch_size=512, columns=sorted({c for c in columns if c}), use_threads=False):
            for record in _without_nanoseconds(batch).to_pylist():
                number += 1
                note, reason = _own_note([record[c] if c else None for c in columns], source, config, number)
                if note is None:
                    counts[reason] += 1
                else:
                    yield note


def _without_nanoseconds(batch: Any) -> Any:
    """The batch with times in microseconds, which Python has; pandas writes nanoseconds."""
    import pyarrow as pa

    def cast(column: Any) -> Any:
        is_finer = pa.types.is_timestamp(column.type) and column.type.unit == "ns"
        return column.cast(pa.timestamp("us", column.type.tz), safe=False) if is_finer else column

    return pa.RecordBatch.from_arrays(list(map(cast, batch.columns)), names=batch.schema.names)


def _read_text(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    with files.reading_text(source.url, source.label, config.encoding) as stream:
        text = stream.read()
    path = PurePosixPath(source.url)
    patient = path.parent.name if config.patient_column else None
    note, reason = _own_note([text, patient, str(path), None, None], source, config, 1)
    if note is None:
        counts[reason] += 1
    else:
        yield note


def _read_sentences(source: Source, config: SourceConfig, counts: Counter[str]) -> Iterator[Note]:
    with files.reading_text(source.url, source.label, config.encoding) as text:
        lines: list[str] = []
        number = 0
        for line in text:
            if not line.isspace():
                lines.append(line)
                continue
            if lines:
                number += 1
                yield _document(lines, source, number)
                lines = []
        if lines:
            yield _document(lines, source, number + 1)


def _document(lines: list[str], source: Source, number: int) -> Note:
    name = f"{source.number:05d}-{number:010d}"
    return Note(name, name, "", NO_CATEGORY, "".join(lines))


def _own_note(values: list[Any], source: Source, config: SourceConfig, number: int) -> tuple[Note | None, str]:
    text, patient, row_id, time, category = values
    if not isinstance(text, str):
        return None, "empty" if text is None else "malformed row"
    name = f"{source.number:05d}-{number:010d}"
    whose = name if config.each_note_is_a_patient else identifier(patient)
    if not whose:
        return None, "no patient"
    return Note(identifier(row_id) or name, whose, sortable_time(time), identifier(category) or NO_CATEGORY, text), ""
