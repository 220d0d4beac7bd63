"""Death in hospital, foreseen from what was written before a chosen hour after admission."""

from collections.abc import Container, Sequence
from datetime import timedelta

from clinicalbert_jax.finetune.convert.outcomes.cohort import Cohort, Member, build
from clinicalbert_jax.finetune.convert.outcomes.readmission import NEWBORN
from clinicalbert_jax.finetune.convert.outcomes.tables import Admission

LABELS = ("alive", "died")  # of two, the last in the alphabet is the outcome


def cohort(admissions: Sequence[Admission], before_hour: int, incomplete: Container[str]) -> Cohort:
    """The admissions, each with whether it ended in death.

    Stays that ended before the hour are excluded, since what was written by then may tell the outcome, and newborns as
    in van Aken et al. 2021 (arXiv:2102.04110).
    """
    hours = timedelta(hours=before_hour)

    def reason(admission: Admission) -> str:
        if admission.patient in incomplete:
            return "a row of the patient's admissions cannot be used"
        if admission.type == NEWBORN:
            return "newborn"
        if admission.ended is None:
            return "no time of discharge"
        if admission.ended <= admission.admitted + hours:
            return f"ended within the first {before_hour} hours"
        return ""

    def member(admission: Admission) -> Member:
        return Member(admission, (LABELS[admission.died],), admission.admitted + hours)

    return build(admissions, reason, member)
