"""Precision, recall and F1 over the labels that are relations.

Shape legend: E examples, M counts (right, found, annotated).
"""

from collections import Counter
from collections.abc import Sequence

import numpy as np

from clinicalbert_jax.finetune.task import CountTable, Scores, f1_scores


def counts_ExM(gold: Sequence[str], found: Sequence[str], positives: Sequence[str]) -> np.ndarray:
    """Relations right, found and annotated in each example."""
    rows = [(g == f and g in positives, f in positives, g in positives) for g, f in zip(gold, found, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 3)


def score(gold: Sequence[str], found: Sequence[str], labels: Sequence[str], positives: Sequence[str]) -> Scores:
    """Micro average over `positives`, their macro average, each by itself, and the confusion of all `labels`."""
    counts = {label: counts_ExM(gold, found, (label,)).sum(0).tolist() for label in positives}
    scores = f1_scores("Relations by label", counts, counts_ExM(gold, found, positives))
    pairs = Counter(zip(gold, found, strict=True))
    unrelated = sum(count for (one, other), count in pairs.items() if not {one, other} & set(positives))
    for of in (scores.made_of, scores.of_labels):  # that count follows from the others
        of.update({name: [*counts_, unrelated] for name, counts_ in of.items()})
    rows: list[tuple[str | int, ...]] = [(one, *(pairs[one, other] for other in labels)) for one in labels]
    scores.tables.append(CountTable(("annotated", *labels), rows, "Annotated (rows) and found (columns)", positives))
    return scores
