"""MIMIC's tables on disk: which files there are, and the admissions in them.

Names of files and columns are read in either case, and identifiers in the one spelling of `patients.identifier`.
"""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any

from clinicalbert_jax import errors
from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs import record_files
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading
from clinicalbert_jax.finetune.inputs.record_files import Record

ADMISSIONS = "admissions"
NOTES = ("noteevents", "discharge", "radiology")  # MIMIC-III has the first, MIMIC-IV-Note the others
CODES = {"diagnoses": "diagnoses_icd", "procedures": "procedures_icd"}

_ENDINGS = (".csv", ".csv.gz")
_COLUMNS = (
    *("subject_id", "hadm_id", "admittime", "dischtime", "deathtime", "admission_type"),
    "hospital_expire_flag",
)
_TIME = re.compile(r"\d{4}-\d\d-\d\d(?:[ T]\d\d:\d\d(?::\d\d(?:\.\d{1,6})?)?)?")
_DATE_LENGTH = len("2100-01-01")


@dataclass(frozen=True, slots=True)
class Admission:
    """One row of ADMISSIONS."""

    id: str
    patient: str
    admitted: datetime
    discharged: datetime | None
    death: datetime | None
    flag: bool  # HOSPITAL_EXPIRE_FLAG
    type: str  # in capitals

    @property
    def died(self) -> bool:
        """Whether the stay ended in death, by the flag or by DEATHTIME."""
        return self.flag or self.death is not None

    @property
    def ended(self) -> datetime | None:
        """When the stay was over: at discharge, or at a death before it."""
        return min(filter(None, (self.discharged, self.death)), default=None)


def find(directory: Path, names: Sequence[str]) -> dict[str, Path]:
    """The files of the tables `names`, as far as they lie in `directory`, at any depth.

    Raises `UserError` where one table has several files.
    """
    found: dict[str, Path] = {}
    for path in sorted(directory.rglob("*")):
        name = path.name.lower()
        stem = next((name.removesuffix(end) for end in reversed(_ENDINGS) if name.endswith(end)), "")
        if stem in names and path.is_file():
            errors.label(path, f"{errors.labelled(str(directory))}, a file of the table {stem}")
            if stem in found:
                raise UserError(f"--input: expected one file of the table {stem}, found several: remove the others")
            found[stem] = path
    return found


def required(found: dict[str, Path], name: str, directory: Path) -> Path:
    """The file of a table; raises `UserError` where there is none."""
    if name not in found:
        expected = f"{name.upper()}.csv or {name}.csv (or one of these with .gz)"
        raise UserError(f"--input: expected the table {expected}, found none: put it there")
    return found[name]


def first_row(path: Path, columns: Sequence[str], reading: Reading) -> Record:
    """The first row of a table, empty where there is none; what is bad before it is counted when the table is read."""
    return next((record for _, record in record_files.read_table(path, columns, replace(reading))), {})


def each(
    path: Path, columns: Sequence[str], reading: Reading, parse: Callable[[Record], Any]
) -> Iterator[tuple[int, Any]]:
    """What `parse` makes of each row of a table, with its line, in the file's order; it raises `BadRecord`."""
    before, good = reading.counts[str(path)], 0
    for line, record in record_files.read_table(path, columns, reading):
        try:
            parsed = parse(record)
        except BadRecord as problem:
            reading.found(path, line, str(problem))
        else:
            good += 1
            yield line, parsed
    reading.check_few(path, reading.counts[str(path)] - before, good)


def read_admissions(path: Path, reading: Reading) -> tuple[list[Admission], set[str]]:
    """The admissions in the table's order, and the patients of rows that cannot be used, whose stays are not all known.

    Raises `UserError`, also where an admission is there twice.
    """
    incomplete: set[str] = set()

    def parse(record: Record) -> Admission:
        patient = identifier(record, "subject_id")
        try:
            return _admission(record, patient)
        except BadRecord:
            incomplete.add(patient)
            raise

    admissions: dict[str, Admission] = {}
    for line, admission in each(path, _COLUMNS, reading, parse):
        if admission.id in admissions:
            reading.found(path, line, "expected one row for each hadm_id, found a second")
            incomplete |= {admission.patient, admissions[admission.id].patient}
        else:
            admissions[admission.id] = admission
    return list(admissions.values()), incomplete


def _admission(record: Record, patient: str) -> Admission:
    admitted, _ = time(record, "admittime")
    if admitted is None:
        raise BadRecord("expected a time in admittime, found none")
    death, _ = time(record, "deathtime")
    flag = patients.identifier(record["hospital_expire_flag"])
    if flag not in ("0", "1"):
        raise BadRecord("expected 0 or 1 in hospital_expire_flag, found otherwise")
    return Admission(
        id=identifier(record, "hadm_id"),
        patient=patient,
        admitted=admitted,
        discharged=time(record, "dischtime")[0],
        death=death,
        flag=flag == "1",
        type=patients.identifier(record["admission_type"]).upper(),
    )


def identifier(record: Record, column: str) -> str:
    """An identifier that a row must have; raises `BadRecord`."""
    if not (found := patients.identifier(record[column])):
        raise BadRecord(f"expected an identifier in {column}, found none")
    return found


def time(record: Record, column: str) -> tuple[datetime | None, bool]:
    """A date or a time, None where the cell is empty or missing, and whether it has a time of day.

    Raises `BadRecord` for anything else.
    """
    cell = patients.identifier(record.get(column))
    if not cell:
        return None, False
    try:
        if not _TIME.fullmatch(cell):
            raise ValueError
        return datetime.fromisoformat(cell), len(cell) > _DATE_LENGTH
    except ValueError:  # its message quotes the cell
        raise BadRecord(f"expected a time in {column} as 2100-01-31 23:59:59, found otherwise") from None
