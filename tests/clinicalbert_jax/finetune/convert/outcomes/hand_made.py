"""Small tables of MIMIC-III and MIMIC-IV, written by hand: stays with their notes and codes."""

import csv
import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ADMISSIONS = ("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type", "hospital_expire_flag")
NOTES_III = (
    *("row_id", "subject_id", "hadm_id", "chartdate", "charttime", "storetime", "category", "description", "iserror"),
    "text",
)
NOTES_IV = ("note_id", "subject_id", "hadm_id", "note_type", "note_seq", "charttime", "storetime", "text")


@dataclass
class Stay:
    """An admission; `notes` are (category, date, time, stored, text), '' where there is none."""

    patient: str
    id: str
    admitted: str
    discharged: str
    type: str = "EMERGENCY"
    death: str = ""
    flag: str = "0"
    codes: Sequence[tuple[str, str]] = (("4019", "9"),)
    notes: list[tuple[str, str, str, str, str]] = field(default_factory=list)


def write_iii(directory: Path, stays: Iterable[Stay], gz: bool = False) -> Path:
    """The tables of MIMIC-III, with names of columns in capitals."""
    rows: dict[str, list[list[Any]]] = {"ADMISSIONS": [], "DIAGNOSES_ICD": [], "NOTEEVENTS": []}
    for stay in stays:
        rows["ADMISSIONS"].append(_admission(stay))
        for number, (code, _) in enumerate(stay.codes, 1):
            rows["DIAGNOSES_ICD"].append([stay.patient, stay.id, number, code])
        for category, date, time, stored, text in stay.notes:
            row = len(rows["NOTEEVENTS"]) + 1
            rows["NOTEEVENTS"].append([row, stay.patient, stay.id, date, time, stored, category, "Report", "", text])
    headers: dict[str, Sequence[str]] = {"ADMISSIONS": ADMISSIONS, "NOTEEVENTS": NOTES_III}
    headers["DIAGNOSES_ICD"] = ["subject_id", "hadm_id", "seq_num", "icd9_code"]
    for name, of_table in rows.items():
        write(directory / f"{name}.csv{'.gz' if gz else ''}", [column.upper() for column in headers[name]], of_table)
    return directory


def write_iv(directory: Path, stays: Iterable[Stay]) -> Path:
    """The tables of MIMIC-IV and the two files of MIMIC-IV-Note; notes that are no discharge summaries are reports."""
    rows: dict[str, list[list[Any]]] = {name: [] for name in ("admissions", "diagnoses_icd", "discharge", "radiology")}
    for stay in stays:
        rows["admissions"].append(_admission(stay))
        for number, (code, version) in enumerate(stay.codes, 1):
            rows["diagnoses_icd"].append([stay.patient, stay.id, number, code, version])
        for category, date, time, stored, text in stay.notes:
            summary = category == "Discharge summary"
            name, kind = ("discharge", "DS") if summary else ("radiology", "RR")
            number = len(rows[name]) + 1
            time = time or f"{date} 00:00:00"
            rows[name].append(
                [f"{stay.patient}-{kind}-{number}", stay.patient, stay.id, kind, number, time, stored, text]
            )
    headers: dict[str, Sequence[str]] = {"admissions": ADMISSIONS, "discharge": NOTES_IV, "radiology": NOTES_IV}
    headers["diagnoses_icd"] = ["subject_id", "hadm_id", "seq_num", "icd_code", "icd_version"]
    for name, of_table in rows.items():
        folder = "note" if name in ("discharge", "radiology") else "hosp"
        write(directory / folder / f"{name}.csv.gz", headers[name], of_table)
    return directory


def _admission(stay: Stay) -> list[str]:
    return [stay.patient, stay.id, stay.admitted, stay.discharged, stay.death, stay.type, stay.flag]


def write(path: Path, header: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """A CSV file, compressed where its name says so."""
    path.parent.mkdir(parents=True, exist_ok=True)
    opened = gzip.open if path.suffix == ".gz" else open
    with opened(path, "wt", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])


def records(directory: Path) -> list[dict[str, Any]]:
    """The rows of all splits that a conversion has written, each with its split."""
    return [
        {**json.loads(line), "split": path.stem}
        for path in sorted(directory.rglob("*.jsonl"))
        for line in path.read_text("utf-8").splitlines()
    ]
