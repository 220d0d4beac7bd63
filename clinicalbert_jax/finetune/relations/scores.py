"""Precision, recall and F1 over the labels that are relations.

Shape legend: E examples, M counts (right, found, annotated).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from clinicalbert_jax.finetune import rates
from clinicalbert_jax.finetune.rates import Rates, in_percent
from clinicalbert_jax.finetune.task import Scores, Table


def counts_ExM(gold: Sequence[str], found: Sequence[str], positives: Sequence[str]) -> np.ndarray:
    """Relations right, found and annotated in each example."""
    rows = [(g == f and g in positives, f in positives, g in positives) for g, f in zip(gold, found, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 3)


def score(gold: Sequence[str], found: Sequence[str], labels: Sequence[str], positives: Sequence[str]) -> Scores:
    """Micro average over `positives`, their macro average, each by itself, and the confusion of all `labels`."""
    by_label = {}
    for label in positives:
        by_label[label] = counts_ExM(gold, found, (label,)).sum(0).tolist()
    rates_of = {label: rates.of_counts(*counts) for label, counts in by_label.items()}
    sums = counts_ExM(gold, found, positives).sum(0).tolist()
    micro = rates.of_counts(*sums)
    macro = Rates(*np.mean([*rates_of.values()], axis=0).tolist())
    values = {**micro._asdict(), **{f"macro_{name}": value for name, value in macro._asdict().items()}}
    values |= {f"{label}/{name}": v for label, one in rates_of.items() for name, v in one._asdict().items()}
    rows: list[tuple[str | int, ...]] = [(label, *by_label[label], *in_percent(rates_of[label])) for label in positives]
    rows += [("micro average", *sums, *in_percent(micro)), ("macro average", "", "", "", *in_percent(macro))]
    header = ("label", "right", "found", "annotated", "precision", "recall", "F1")
    return Scores(values, "f1", [Table("Relations by label", header, rows), _confusion(gold, found, labels)])


def _confusion(gold: Sequence[str], found: Sequence[str], labels: Sequence[str]) -> Table:
    counts = Counter(zip(gold, found, strict=True))
    rows: list[tuple[str | int, ...]] = [(one, *(counts[one, other] for other in labels)) for one in labels]
    return Table("Annotated (rows) and found (columns)", ("annotated", *labels), rows)
