"""Entities as the scorers of the i2b2 and n2c2 challenges count them.

Read from the scorers themselves: n2c2 2018 track 2 and i2b2 2014 (kotfic/i2b2_evaluation_scripts), i2b2 2012
(timexEvaluation.py by Sun). From descriptions alone (Uzuner et al. 2011, and the scorer of CliNER): i2b2 2010, whose
scorer is a program without source. They differ:

n2c2 2018    A found entity that matches what an earlier one matched is not counted at all. Strict: same start, end and
             type; lenient: same type, and a character in common. Macro: the mean over documents of each rate.
i2b2 2010    Inexact: as lenient, but each entity is matched once, an annotated one with the longest found one.
i2b2 2012    Overlap: of any type. Recall counts annotated entities that overlap a found one, precision found ones that
             overlap an annotated one. Its scorer wants two characters in common where the other one begins first.
i2b2 2014    Relaxed: same start and type, ends at most 2 characters apart. Macro: F1 of the mean precision and recall
             over documents. 'Strict' is as in n2c2 2018, without duplicates.

Shape legend: E documents; 4 counts: right among the found, found, right among the annotated, annotated.
"""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.task import Rates, RateTable, Scores, f1
from clinicalbert_jax.report.number_formats import percent

Counts = tuple[int, int, int, int]
_RELAXED = 2  # characters between two ends, in i2b2 2014


def overlap(one: Span, other: Span) -> bool:
    """Whether two spans have a character in common, of whatever type."""
    return one.start < other.end and other.start < one.end


def overlap_in_type(one: Span, other: Span) -> bool:
    """Whether two spans of one type have a character in common."""
    return one.label == other.label and overlap(one, other)


def n2c2_2018(gold: Sequence[Any], found: Sequence[Any], match: Callable[[Any, Any], bool]) -> Counts:
    """Entities, or relations, of one document, where `match(found, annotated)` says which may be the same."""
    taken: set[int] = set()
    right = counted = 0
    for one in found:
        matched = {number for number, other in enumerate(gold) if match(one, other)}
        if not matched & taken:
            counted += 1
            right += bool(matched)
        taken |= matched
    return right, counted, right, len(gold)


def i2b2_2010_inexact(gold: Sequence[Span], found: Sequence[Span]) -> Counts:
    """Entities of one document, each in one pair at most; the annotated ones choose in the order of the text."""
    left, right = list(found), 0
    for one in sorted(gold):
        overlapping = [other for other in left if overlap_in_type(one, other)]
        if overlapping:
            left.remove(max(overlapping, key=lambda span: span.end - span.start))
            right += 1
    return right, len(found), right, len(gold)


def i2b2_2012_overlap(gold: Sequence[Span], found: Sequence[Span]) -> Counts:
    """Entities of one document, whatever their types."""
    return _each_in_other(gold, found, overlap)


def i2b2_2014_relaxed(gold: Sequence[Span], found: Sequence[Span]) -> Counts:
    """Entities of one document."""

    def match(one: Span, other: Span) -> bool:
        same = (one.start, one.label) == (other.start, other.label)
        return same and abs(one.end - other.end) <= _RELAXED

    return _each_in_other(gold, found, match)


def micro(counts_Ex4: np.ndarray) -> Rates:
    """Rates over all documents as one."""
    right_found, found, right_gold, gold = counts_Ex4.sum(0).tolist()
    return _rates(right_found / found if found else 0.0, right_gold / gold if gold else 0.0)


def macro(counts_Ex4: np.ndarray, f1_of_means: bool = False) -> Rates:
    """The mean of each document's rates; `f1_of_means`: F1 of the mean precision and recall instead of the mean F1."""
    rates_Ex3 = np.array([micro(counts_4[None]) for counts_4 in counts_Ex4]).reshape(-1, 3)
    precision, recall, mean_f1 = rates_Ex3.mean(0).tolist() if len(rates_Ex3) else (0.0, 0.0, 0.0)
    return _rates(precision, recall) if f1_of_means else Rates(precision, recall, mean_f1)


def scores(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> Scores:
    """All rules' scores. Each example is a document, as the challenges' files are."""
    found = [sorted(spans) for spans in found]
    counted = {name: _by_document(gold, found, rule) for name, rule in _RULES.items()}
    scores = Scores({}, "n2c2_2018_strict_f1", counted["n2c2_2018_strict"], lambda sums_4: micro(sums_4[None]).f1)
    rows: list[tuple[str | int, ...]] = []
    keys = []
    for number, (name, counts_Ex4) in enumerate(counted.items()):
        rates = micro(counts_Ex4)
        made_of = parts(counts_Ex4, *list(counted.values())[:number])
        for rate, value in rates._asdict().items():
            scores.values[f"{name}_{rate}"], scores.made_of[f"{name}_{rate}"] = value, made_of
        scores.made_of[f"{name}_macro_f1"] = made_of
        rows.append((name.replace("_", " "), *map(percent, rates)))
        keys.append(f"{name}_f1")
    for name in ("n2c2_2018_strict", "n2c2_2018_lenient", "i2b2_2014_relaxed"):
        mean = macro(counted[name], f1_of_means=name.startswith("i2b2"))
        scores.values[f"{name}_macro_f1"] = mean.f1
        rows.append((f"{name.replace('_', ' ')}, mean over documents", *map(percent, mean)))
        keys.append(f"{name}_macro_f1")
    header = ("counted as", "precision", "recall", "F1")
    scores.tables.append(RateTable(header, rows, "Entities as the challenges' scorers count them", keys))
    _add_types(scores, gold, found)
    return scores


def parts(counts_Ex4: np.ndarray, *others: np.ndarray) -> list[int]:
    """The counts that rates are made of: right and wrong of both sides, and how many more than by other rules."""
    right_found, found, right_gold, gold = counts_Ex4.sum(0).tolist()
    more = [abs(counts_Ex4 - other_Ex4).sum(0).tolist() for other_Ex4 in others]
    return [
        right_found,
        found - right_found,
        right_gold,
        gold - right_gold,
        *(n for of_other in more for n in of_other),
    ]


def _add_types(scores: Scores, gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> None:
    rows: list[tuple[str | int, ...]] = []
    keys = []
    for label in sorted({span.label for spans in (*gold, *found) for span in spans}):
        annotated, ours = ([[one for one in spans if one.label == label] for spans in side] for side in (gold, found))
        strict_Ex4, lenient_Ex4, inexact_Ex4 = (
            _by_document(annotated, ours, _RULES[name])
            for name in ("n2c2_2018_strict", "n2c2_2018_lenient", "i2b2_2010_inexact")
        )
        lenient, inexact = micro(lenient_Ex4), micro(inexact_Ex4)
        scores.values.update({f"{label}/lenient_f1": lenient.f1, f"{label}/inexact_f1": inexact.f1})
        scores.of_labels[label] = [
            *parts(strict_Ex4),
            *parts(lenient_Ex4, strict_Ex4),
            *parts(inexact_Ex4, strict_Ex4, lenient_Ex4),
        ]
        rows.append((label, *map(percent, lenient), *map(percent, inexact)))
        keys.append(f"{label}/lenient_f1")
    rates = ("precision", "recall", "F1")
    header = ("label", *(f"{name} {rate}" for name in ("lenient", "inexact") for rate in rates))
    caption = "Entities by type, lenient (n2c2 2018) and inexact (i2b2 2010)"
    scores.tables.append(RateTable(header, rows, caption, keys))


_Rule = Callable[[Sequence[Span], Sequence[Span]], Counts]
_RULES: dict[str, _Rule] = {
    "n2c2_2018_strict": lambda gold, found: n2c2_2018(gold, found, Span.__eq__),
    "n2c2_2018_lenient": lambda gold, found: n2c2_2018(gold, found, overlap_in_type),
    "i2b2_2010_inexact": i2b2_2010_inexact,
    "i2b2_2012_overlap": i2b2_2012_overlap,
    "i2b2_2014_relaxed": i2b2_2014_relaxed,
}


def _by_document(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]], rule: _Rule) -> np.ndarray:
    return np.array([rule(*pair) for pair in zip(gold, found, strict=True)], np.int64).reshape(-1, 4)


def _each_in_other(gold: Sequence[Span], found: Sequence[Span], match: Callable[[Span, Span], bool]) -> Counts:
    right_found = sum(any(match(one, other) for other in gold) for one in found)
    right_gold = sum(any(match(one, other) for other in found) for one in gold)
    return right_found, len(found), right_gold, len(gold)


def _rates(precision: float, recall: float) -> Rates:
    return Rates(precision, recall, f1(precision, recall))
