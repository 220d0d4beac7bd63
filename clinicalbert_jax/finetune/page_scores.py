"""What the page of an experiment may show of scores: no label of few patients, and no count under 11.

Labels that fewer than `MIN_PATIENTS` patients of the split have are scored as one, 'other'. What a count under `LEAST`
would follow from is NaN, a dash, or left out: a rate is shown where each count that it is made of is 0 or `LEAST` and
more, a label where that is so for all its rates, and a mean over labels where it tells nothing of one label's rates.
"""

import dataclasses
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from clinicalbert_jax.finetune.task import CountTable, RateTable, Scores, Task
from clinicalbert_jax.report import suppression
from clinicalbert_jax.report.suppression import FEW, LEAST, MIN_PATIENTS, OTHER, SOME
from clinicalbert_jax.report.table import Cell, Table

RULE = (
    f"Labels that fewer than {MIN_PATIENTS} patients have (documents, where no patients are named) are scored as one, "
    f"'{OTHER}'. Counts under {LEAST} are shown as {FEW}, larger ones from which one would follow as {SOME}; a dash "
    "stands for figures from which one would follow, and a table of such counts is left out."
)
_MOST_CELLS = 60  # of a table whose complementary suppression is worth its time
_HIDDEN = "–"
_NAMING_LABELS = ("positive_label", "negative_label", "candidates")  # settings


def of(task: Task, examples: Sequence[Any], predictions: Sequence[Any], scores: Scores) -> Scores:
    """The scores of a split, as its page may show them."""
    patients = _patients(task, examples)
    names = pooled(patients)
    few = _are_few(patients, examples)
    if any(name != shown for name, shown in names.items()):
        renamed, examples, predictions = task.renamed(examples, predictions, names)
        few |= len(renamed.labels) == 1 < len(task.labels)  # nothing is left to tell apart
        scores = scores if few else dataclasses.replace(renamed.score(examples, predictions), is_pooled=True)
    return nothing(scores) if few else without_small_counts(scores)


def is_shown(task: Task, examples: Sequence[Any], scores: Scores, name: str) -> bool:
    """Whether the value `name`, of all labels together, may stand on a page that shows no others.

    A value that is not defined tells nothing.
    """
    if _are_few(_patients(task, examples), examples):
        return False
    return not math.isfinite(scores.values[name]) or math.isfinite(without_small_counts(scores).values[name])


def _patients(task: Task, examples: Sequence[Any]) -> dict[str, set[str]]:
    """The patients who have each label."""
    patients: dict[str, set[str]] = {name: set() for name in task.names}
    for example in examples:
        for name in patients.keys() & set(task.names_in(example)):
            patients[name].add(example.document)
    return patients


def _are_few(patients: Mapping[str, set[str]], examples: Sequence[Any]) -> bool:
    return not is_enough(patients) if patients else len({example.document for example in examples}) < LEAST


def pooled(patients: Mapping[str, set[str]]) -> dict[str, str]:
    """The name to show for each: `OTHER` for those of few patients, and for more until it is of many, or of none."""
    rarest = sorted(patients, key=lambda name: (len(patients[name]), name))
    together = [name for name in rarest if len(patients[name]) < MIN_PATIENTS]
    if together and OTHER in patients:
        together.append(OTHER)
    for name in rarest:
        of_together = {one: patients[one] for one in together}
        if any(of_together.values()) and not is_enough(of_together):
            together.append(name)
    return {name: OTHER if name in together else name for name in patients}


def is_enough(patients: Mapping[str, set[str]]) -> bool:
    """Whether labels, taken as one, are of `MIN_PATIENTS` patients."""
    return len(set().union(*patients.values())) >= MIN_PATIENTS


def nothing(scores: Scores) -> Scores:
    """Scores of too few patients to show any."""
    values = {name: math.nan for name in scores.values if "/" not in name}
    return dataclasses.replace(scores, values=values, of_sums=lambda _: math.nan, tables=[], curves={}, errors=[])


def without_small_counts(scores: Scores) -> Scores:
    """Scores from which no count under `LEAST` follows."""
    labels = scores.of_labels
    hidden = suppression.hidden_rows(labels)
    is_whole_small = suppression.is_small(map(sum, zip(*labels.values(), strict=True)))

    def may_be_shown(name: str) -> bool:
        if name in scores.means:
            # Of two hidden labels or one, the counts may follow from the mean.
            return not is_whole_small and len(hidden) not in (1, 2)
        label, slash, _ = name.rpartition("/")
        if slash and label in labels:
            return label not in hidden
        return not suppression.is_small(scores.made_of.get(name, ()))

    tables = [_table(table, hidden, may_be_shown) for table in scores.tables]
    return dataclasses.replace(
        scores,
        values={name: value if may_be_shown(name) else math.nan for name, value in scores.values.items()},
        of_sums=scores.of_sums if may_be_shown(scores.main) else lambda _: math.nan,
        tables=[table for table in tables if table is not None],
    )


def _table(table: Table, hidden: set[str], is_shown: Callable[[str], bool]) -> Table | None:
    if isinstance(table, CountTable):
        return _counts(table, hidden)
    if not isinstance(table, RateTable):
        return table
    rows = [
        row if is_shown(key) else (row[0], *([_HIDDEN] * (len(row) - 1)))
        for row, key in zip(table.rows, table.keys, strict=True)
    ]
    return dataclasses.replace(table, rows=rows)


def _counts(table: CountTable, hidden: set[str]) -> CountTable | None:
    """The table with counts hidden, or None where what stands elsewhere would have to be hidden too."""
    cells: dict[Any, int] = {
        (r, c): cell for r, row in enumerate(table.rows) for c, cell in enumerate(row) if isinstance(cell, int)
    }
    if not suppression.is_small(cells.values()):
        return table
    if len(cells) > _MOST_CELLS or len(cells) < len(table.rows) * (len(table.header) - 1):
        return None
    columns = range(1, len(table.header))
    groups: dict[Any, list[Any]] = {("row", r): [(r, c) for c in columns] for r in range(len(table.rows))}
    groups |= {("column", c): [(r, c) for r in range(len(table.rows))] for c in columns}
    groups["all"] = list(cells)
    diagonal = [(r, c) for r, row in enumerate(table.rows) for c in columns if row[0] == table.header[c]]
    diagonal = [(r, c) for r, c in diagonal if table.header[c] in table.labels]
    if diagonal:
        groups["right"] = diagonal
    if len(columns) == 1:  # no sums but that of the column
        groups = {"all": list(cells)}
    totals = {key: sum(cells[part] for part in group) for key, group in groups.items()}
    shown = suppression.shown(cells | totals, list(groups.items()))
    elsewhere = [*totals, *((r, c) for r, c in diagonal if table.header[c] not in hidden)]
    if any(isinstance(shown[key], str) for key in elsewhere):
        return None
    rows: list[Sequence[Cell]] = [(row[0], *(shown[r, c] for c in columns)) for r, row in enumerate(table.rows)]
    return dataclasses.replace(table, rows=rows)


def without_labels(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an experiment or task without those that name labels of the data."""
    return {
        name: without_labels(value) if isinstance(value, dict) else value
        for name, value in settings.items()
        if name not in _NAMING_LABELS
    }
