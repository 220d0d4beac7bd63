"""The ICD codes of an admission, as billed, for its discharge summaries.

Codes are strings without a point, in which leading zeros matter: '0389' is not '389'. MIMIC-III has ICD-9; in MIMIC-IV
`icd_version` says which, and one string may be a code of both, so that one version is read at a time.
"""

import re
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path

from clinicalbert_jax.data import patients
from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.convert.outcomes import tables
from clinicalbert_jax.finetune.convert.outcomes.cohort import Cohort, Member, build
from clinicalbert_jax.finetune.convert.outcomes.tables import Admission
from clinicalbert_jax.finetune.inputs.reading import BadRecord, Reading
from clinicalbert_jax.finetune.inputs.record_files import Record

VERSIONS = ("9", "10")
READ = "read"  # what becomes of a row: its code is one of the admission's
_FORMS = {
    ("diagnoses", "9"): r"\d{3,5}|V\d{2,4}|E\d{3,4}",
    ("diagnoses", "10"): r"[A-Z]\d[0-9A-Z]{1,5}",
    ("procedures", "9"): r"\d{2,4}",
    ("procedures", "10"): r"[0-9A-HJ-NP-Z]{7}",
}


def read(path: Path, kind: str, version: str | None, reading: Reading) -> tuple[dict[str, set[str]], Counter[str]]:
    """The codes of each admission, '' among them where it has codes of another version alone, and what became of rows.

    `kind`: 'diagnoses' or 'procedures'. `version` None: the only one there is. Raises `UserError`.
    """
    columns, of_iii = _columns(path, reading)
    if of_iii and version not in (None, "9"):
        raise UserError(f"--icd_version: expected 9, since MIMIC-III has no other, found {version}: leave it out")
    by_version: dict[str, defaultdict[str, set[str]]] = {one: defaultdict(set) for one in VERSIONS}
    forms = {one: re.compile(_FORMS[kind, one]) for one in VERSIONS}
    rows: Counter[str] = Counter()

    def parse(record: Record) -> tuple[str, str, str]:
        version = "9" if of_iii else patients.identifier(record["icd_version"])
        # Not `identifier`, which takes 389.0 for 389: what is left of a code that a spreadsheet has read as a number.
        code = record[columns[1]].strip().upper()
        if version not in VERSIONS:
            raise BadRecord("expected 9 or 10 in icd_version, found otherwise")
        if code and not forms[version].fullmatch(code):
            raise BadRecord(
                f"expected a code of ICD-{version} without a point and with its leading zeros, found otherwise "
                "(probably the table was read as numbers)"
            )
        return tables.identifier(record, "hadm_id"), version, code

    for _, (admission, of_version, code) in tables.each(path, columns, reading, parse):
        if not code:
            rows["empty"] += 1
        elif code in by_version[of_version][admission]:
            rows["again in the same admission"] += 1
        else:
            by_version[of_version][admission].add(code)
            rows[READ] += 1
    there = [one for one in VERSIONS if by_version[one]]
    if version is None and len(there) > 1:
        raise UserError(f"--icd_version: expected 9 or 10 for {path}, which has codes of both, found none: give it")
    version = version or "".join(there)
    if version not in there:
        of = f"ICD-{version}" if version else "ICD"
        raise UserError(f"{path}: expected codes of {of}, found none: give another --icd_version")
    codes = dict(by_version[version])
    for other in there:
        if other != version:
            number = sum(map(len, by_version[other].values()))
            rows["of the other version"] += number
            rows[READ] -= number
            for admission in by_version[other]:
                codes.setdefault(admission, {""})
    return codes, rows


def _columns(path: Path, reading: Reading) -> tuple[list[str], bool]:
    """The columns to read, and whether the table is MIMIC-III's."""
    of_iii = "icd9_code" in tables.first_row(path, (), reading)
    return (["hadm_id", "icd9_code"], True) if of_iii else (["hadm_id", "icd_code", "icd_version"], False)


def cohort(admissions: Sequence[Admission], codes: Mapping[str, Collection[str]]) -> Cohort:
    """The admissions that have codes."""

    def reason(admission: Admission) -> str:
        if admission.id not in codes:
            return "no code"
        return "coded in another ICD version" if "" in codes[admission.id] else ""

    return build(admissions, reason, lambda admission: Member(admission, tuple(sorted(codes[admission.id]))))


def most_frequent(training: Iterable[Member], number: int) -> frozenset[str]:
    """The `number` codes (0: all) that most admissions of the training split have; of equal ones the lower."""
    counts = Counter(code for member in training for code in member.labels)
    ranked = sorted(counts, key=lambda code: (-counts[code], code))
    return frozenset(ranked[: number or None])
