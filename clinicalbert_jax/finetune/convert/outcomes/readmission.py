"""Readmission within 30 days, as Huang, Altosaar and Ranganath define it (arXiv:1904.05342, and their script).

An admission is followed by a readmission where the patient's next admission that is not elective begins less than 30
days (of 24 hours) after its discharge: exactly 30 days are too late, and one that begins before the discharge counts.
An elective admission is passed over for the one after it. Admissions of newborns, and those that end in death, are
followed by other admissions' dates in the table but are not in the cohort.
"""

from collections import defaultdict
from collections.abc import Container, Iterable, Sequence
from datetime import datetime, time, timedelta

from clinicalbert_jax.finetune.convert.outcomes.cohort import Cohort, Member, build
from clinicalbert_jax.finetune.convert.outcomes.tables import Admission

LABELS = ("not readmitted", "readmitted")  # of two, the last in the alphabet is the outcome
WITHIN = timedelta(days=30)
NEWBORN = "NEWBORN"


def cohort(
    admissions: Sequence[Admission], elective_types: Container[str], first_days: int, incomplete: Container[str]
) -> Cohort:
    """The admissions, each with whether a readmission follows.

    With `first_days` the input is of the calendar days from admission, as in the published script, and stays that
    ended within them are excluded: their outcome is not a forecast any more. Without, it is what was written up to the
    end of the day of discharge. Admissions of patients in `incomplete`, whose other stays are not all known, are
    excluded.
    """
    next_of = next_unplanned(admissions, elective_types)

    def until(admission: Admission) -> datetime:
        first = admission.admitted if first_days else admission.discharged
        assert first is not None
        return datetime.combine(first.date(), time()) + timedelta(days=first_days or 1)

    def reason(admission: Admission) -> str:
        if admission.patient in incomplete:
            return "a row of the patient's admissions cannot be used"
        if admission.type == NEWBORN:
            return "newborn"
        if admission.died:
            return "died in hospital"
        if admission.discharged is None:
            return "no time of discharge"
        if first_days and admission.discharged < until(admission):
            return f"ended within the first {first_days} days"
        return ""

    def member(admission: Admission) -> Member:
        assert admission.discharged is not None
        following = next_of.get(admission.id)
        readmitted = following is not None and following - admission.discharged < WITHIN
        return Member(admission, (LABELS[readmitted],), until(admission))

    return build(admissions, reason, member)


def next_unplanned(admissions: Iterable[Admission], elective_types: Container[str]) -> dict[str, datetime]:
    """By admission, when the patient's next one that is not elective begins; equal times are in the table's order."""
    by_patient: defaultdict[str, list[Admission]] = defaultdict(list)
    for admission in admissions:
        by_patient[admission.patient].append(admission)
    found = {}
    for stays in by_patient.values():
        following: datetime | None = None
        stays.sort(key=lambda stay: stay.admitted)
        for admission in reversed(stays):
            if following is not None:
                found[admission.id] = following
            if admission.type not in elective_types:
                following = admission.admitted
    return found
