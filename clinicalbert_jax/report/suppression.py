"""Which counts of patients and notes a page may show, so that none under `LEAST` can be told from it, and which names.

A count from 1 to 10 becomes '<11' (primary suppression, the rule of the US Centers for Medicare & Medicaid Services).
Where it would follow from the totals beside it, larger counts become '11 or more' (complementary suppression), until
every hidden count has at least two possible values, and until those hidden within a sum are no group under 11 either.
"""

from collections import Counter
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from typing import TypeVar

import numpy as np

from clinicalbert_jax.data.manifest import Manifest

LEAST = 11
FEW, SOME = f"<{LEAST}", f"{LEAST} or more"
MIN_PATIENTS = 20  # a string from the notes that fewer patients have may be of one of them
OTHER = "other"

Key = TypeVar("Key", bound=Hashable)
Sums = Sequence[tuple[Key, Sequence[Key]]]  # a total and the counts that add up to it
Orders = Sequence[tuple[Key, Key]]  # a count and one that it cannot exceed
Shown = Mapping[tuple[str, ...], int | str]  # the counts of a manifest as they may be shown


def pooled(patients: Mapping[str, int]) -> tuple[str, ...]:
    """The names that `MIN_PATIENTS` patients have, in alphabetical order; `OTHER` is among them for all the others."""
    names = {name if count >= MIN_PATIENTS else OTHER for name, count in patients.items()}
    return tuple(sorted(names))


def of_manifest(manifest: Manifest) -> Shown:
    """Every count of notes and patients of a dataset, as a page about it may show them together.

    By what is counted: ("notes",), ("notes", split), ("patients",), ("patients", split), ("category", name),
    ("dropped",), ("dropped", reason) and ("read",), which is the sum of ("notes",) and ("dropped",).
    """
    counts: dict[tuple[str, ...], int] = {}
    sums: list[tuple[tuple[str, ...], list[tuple[str, ...]]]] = []

    def add(total: tuple[str, ...], parts: Mapping[str, int], kind: str | None = None) -> None:
        of_parts = {(kind or total[0], name): count for name, count in parts.items()}
        counts.update({total: sum(parts.values())} | of_parts)
        sums.append((total, list(of_parts)))

    splits = manifest.splits.items()
    add(("notes",), {name: split.num_notes for name, split in splits})
    add(("patients",), {name: split.num_patients for name, split in splits})
    if categories := notes_by_category(manifest):
        add(("notes",), categories, "category")
    add(("dropped",), manifest.drops)
    counts["read",] = counts["notes",] + counts["dropped",]
    sums.append((("read",), [("notes",), ("dropped",)]))
    orders = [(("patients", *key[1:]), key) for key in counts if key[0] == "notes"]
    return shown(counts, sums, [(low, high) for low, high in orders if counts[low] <= counts[high]])


def notes_by_category(manifest: Manifest) -> Counter[str]:
    """The notes of each category, over all splits."""
    total: Counter[str] = Counter()
    for split in manifest.splits.values():
        total.update(split.notes_by_category)
    return total


def shown(counts: Mapping[Key, int], sums: Sums = (), orders: Orders = ()) -> dict[Key, int | str]:
    """What to show of each count: itself, '<11' or '11 or more'. Zero is shown.

    `sums` are the totals that a reader knows, over the whole page: every table that shares a count belongs in one call.
    `orders` are what else a reader knows, such as (patients, notes): there are no more patients than notes. Leave out
    percentages, bars and means where a count that they are made of is hidden. Raises `ValueError` where `counts`
    contradict `sums` or `orders`.
    """
    if any(counts[total] != sum(counts[part] for part in parts) for total, parts in sums):
        raise ValueError("counts that do not add up")
    if any(counts[lower] > counts[upper] for lower, upper in orders):
        raise ValueError("counts in another order")
    hidden = {key for key, count in counts.items() if 0 < count < LEAST}
    totals = {total for total, _ in sums}
    while (exposed := _exposed(counts, sums, orders, hidden)) is not None:
        candidates = [key for key in exposed if key not in hidden and counts[key]]
        if not candidates:
            candidates = [key for key in counts if key not in hidden and counts[key]]
        if not candidates:
            break
        hidden.add(min(candidates, key=lambda key: (key in totals, counts[key])))
    return {key: count if key not in hidden else FEW if count < LEAST else SOME for key, count in counts.items()}


def is_small(counts: Iterable[int]) -> bool:
    """Whether a count among them must not be shown."""
    return any(0 < count < LEAST for count in counts)


def hidden_rows(rows: Mapping[Key, Sequence[int]]) -> set[Key]:
    """The rows of counts to leave out, where the sums of all rows are known: those with a small count, and some more.

    Of two rows or more that are left out, whose sums are not small, no count can be told. All rows, where there is no
    other way.
    """
    hidden = {key for key, counts in rows.items() if is_small(counts)}
    by_size = sorted(rows, key=lambda key: sum(rows[key]))
    while hidden and (len(hidden) == 1 or is_small(map(sum, zip(*(rows[key] for key in hidden), strict=True)))):
        more = next((key for key in by_size if key not in hidden), None)
        if more is None:
            break
        hidden.add(more)
    return hidden


def _exposed(counts: Mapping[Key, int], sums: Sums, orders: Orders, hidden: set[Key]) -> list[Key] | None:
    """The counts beside one that a reader can work out, of which one more must be hidden; None where there is none."""
    for total, parts in sums:
        hidden_within = sum(counts[part] for part in parts if part in hidden)
        if total not in hidden and 0 < hidden_within < LEAST:
            return [total, *parts]
    for key in _worked_out(counts, sums, orders, hidden):
        beside = [*([total, *parts] for total, parts in sums), *orders]
        return [each for group in beside if key in group for each in group]
    return None


def _worked_out(counts: Mapping[Key, int], sums: Sums, orders: Orders, hidden: set[Key]) -> Iterator[Key]:
    """The hidden counts for which no other integers fit all that is shown, by mixed-integer linear programming."""
    from scipy.optimize import Bounds, LinearConstraint, milp

    place = {key: number for number, key in enumerate(counts)}
    true = np.array(list(counts.values()))
    most = 2 * int(true.sum()) + LEAST
    rows = np.zeros((len(sums) + len(orders) + 1, len(counts)))
    least = np.zeros(len(rows))
    for row, (total, parts) in enumerate(sums):
        rows[row, [place[part] for part in parts]] = 1
        rows[row, place[total]] -= 1
    for row, (low, high) in enumerate(orders, len(sums)):
        rows[row, place[low]], rows[row, place[high]], least[row] = 1, -1, -most
    few = true < LEAST
    is_hidden = np.array([key in hidden for key in counts])
    bounds = Bounds(
        np.where(is_hidden, np.where(few, 1, LEAST), true), np.where(is_hidden, np.where(few, LEAST - 1, most), true)
    )
    left = is_hidden.copy()
    for number, key in enumerate(counts):
        for sign in (1, -1):
            if left[number]:
                objective = np.zeros(len(counts))
                objective[number] = sign
                limits = LinearConstraint(rows, least, np.zeros(len(rows)))
                found = milp(objective, integrality=np.ones(len(counts)), bounds=bounds, constraints=limits)
                left &= np.rint(found.x) == true
        if left[number]:
            yield key
