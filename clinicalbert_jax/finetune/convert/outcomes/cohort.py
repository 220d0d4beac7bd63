"""Which admissions an outcome is asked of, and what is known of each before its notes are read."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime

from clinicalbert_jax.finetune.convert.outcomes.tables import Admission


@dataclass(frozen=True, slots=True)
class Member:
    """An admission in the cohort, with its labels. Only notes written before `until` are its input (None: all)."""

    admission: Admission
    labels: tuple[str, ...]
    until: datetime | None = None


@dataclass
class Cohort:
    """The members by admission, in the table's order, and how many other admissions were excluded, by reason."""

    members: dict[str, Member] = field(default_factory=dict)
    excluded: Counter[str] = field(default_factory=Counter)

    def keep(self, wanted: Callable[[Member], bool], otherwise: str) -> None:
        """Exclude the members that are not `wanted`."""
        kept = {id_: member for id_, member in self.members.items() if wanted(member)}
        self.excluded[otherwise] += len(self.members) - len(kept)
        self.members = kept


def build(
    admissions: Iterable[Admission],
    reason: Callable[[Admission], str],
    member: Callable[[Admission], Member],
) -> Cohort:
    """The cohort of the admissions that `reason` gives '' for; the others are excluded for what it gives."""
    cohort = Cohort()
    for admission in admissions:
        if why := reason(admission):
            cohort.excluded[why] += 1
        else:
            cohort.members[admission.id] = member(admission)
    return cohort
