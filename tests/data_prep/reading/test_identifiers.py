"""One person is one patient, whatever reader met them and however the file spells them."""

import csv
import json
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_prep.reading import note_readers, selection, sources
from data_prep.reading.note_readers import Note
from data_prep.reading.selection import SelectionConfig
from data_prep.reading.sources import SourceConfig

COLUMNS = {"text_column": "text", "patient_column": "subject_id"}
MIMIC_III = ["ROW_ID", "SUBJECT_ID", "CHARTDATE", "CATEGORY", "TEXT"]
MIMIC_IV = ["note_id", "subject_id", "note_type", "text"]

texts_of_an_identifier = st.sampled_from(
    ["{}", "{}.0", " {} ", "\ufeff{}", '"{}"', "'{}", '="{}"', "{}.000\t", "\u00a0{}"]
)


def write_table(path: Path, header: list[str], row: list[str], bom: bool) -> Path:
    with path.open("w", encoding="utf-8-sig" if bom else "utf-8", newline="") as file:
        csv.writer(file, delimiter="\t" if path.suffix == ".tsv" else ",").writerows([header, row])
    return path


def files_of(number: int, texts: list[str], bom: bool, directory: Path) -> list[tuple[Path, dict[str, str]]]:
    """One note of the patient in every form that identifiers come in, and the settings that read it."""
    csv_, tsv, three, four, folder, in_json, in_parquet = texts
    files = [
        (write_table(directory / "a.csv", ["subject_id", "text"], [csv_, "In CSV."], bom), COLUMNS),
        (write_table(directory / "a.tsv", ["text", "subject_id"], ["In TSV.", tsv], bom), COLUMNS),
        (write_table(directory / "NOTEEVENTS.csv", MIMIC_III, ["1", three, "2150-01-01", "Echo", "III."], bom), {}),
        (write_table(directory / "discharge.csv", MIMIC_IV, ["1", four, "DS", "IV."], bom), {}),
        (directory / "notes" / folder, {"patient_column": "directory"}),
    ]
    files[-1][0].mkdir(parents=True)
    (files[-1][0] / "1.txt").write_text("A text file.")
    for form, value in enumerate((number, float(number), in_json)):
        path = directory / f"{form}.jsonl"
        path.write_text("\ufeff" * bom + json.dumps({"subject_id": value, "text": f"JSON {form}."}) + "\n", "utf-8")
        files.append((path, COLUMNS))
    columns = [pyarrow.array([number]), pyarrow.array([float(number)]), pyarrow.array([in_parquet])]
    columns += [pyarrow.array([in_parquet.encode()]), pyarrow.array([str(number)]).dictionary_encode()]
    for form, column in enumerate([*columns, columns[0].cast(pyarrow.decimal128(30, 2))]):
        path = directory / f"{form}.parquet"
        pyarrow.parquet.write_table(pyarrow.table({"subject_id": column, "text": [f"Parquet {form}."]}), path)
        files.append((path, COLUMNS))
    return files


def notes_of(path: Path, options: dict[str, Any]) -> list[Note]:
    config = SourceConfig((str(path),), **options)
    drops: Counter[str] = Counter()
    notes = [note for source in sources.resolve(config) for note in note_readers.read(source, config, drops)]
    assert not drops
    return notes


@pytest.mark.fast
@settings(max_examples=20)
@given(st.integers(1, 2**53 - 1), st.lists(texts_of_an_identifier, min_size=8, max_size=8), st.booleans())
def test_any_spelling_in_any_reader_is_one_patient(number: int, spellings: list[str], bom: bool) -> None:
    texts = [spelling.format(number) for spelling in spellings]
    with tempfile.TemporaryDirectory() as directory:
        notes = [
            note
            for path, options in files_of(number, texts[1:], bom, Path(directory))
            for note in notes_of(path, options)
        ]
        assert len(notes) == 14
        assert {note.patient_id for note in notes} == {str(number)}
        excluded = Path(directory) / "opted_out.txt"
        excluded.write_text(("\ufeff" if bom else "") + texts[0] + "\n", "utf-8")
        drops: Counter[str] = Counter()
        assert not list(selection.select(notes, SelectionConfig(exclude_patients=str(excluded)), drops))
        assert drops == {"excluded patient": 14}
