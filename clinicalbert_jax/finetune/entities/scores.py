"""Precision, recall and F1 of entities: right means the same start, end and type, as seqeval counts in strict mode.

What the scorers of i2b2 and n2c2 count otherwise is in `challenges`.

Shape legend: E examples, M counts (right, found, annotated).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clinicalbert_jax.finetune.entities import challenges
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.task import CountTable, Scores, f1_scores

KINDS = ("missed", "spurious", "wrong type", "wrong boundary", "wrong type and boundary")


def by_type(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> dict[str, tuple[int, int, int]]:
    """Entities right, found and annotated of each type there is among either, by name of the type."""
    right_of: Counter[str] = Counter()
    found_of: Counter[str] = Counter()
    gold_of: Counter[str] = Counter()
    for ours, theirs in zip(found, gold, strict=True):
        right_of.update(entity.label for entity in set(ours) & set(theirs))
        found_of.update(entity.label for entity in ours)
        gold_of.update(entity.label for entity in theirs)
    return {label: (right_of[label], found_of[label], gold_of[label]) for label in sorted(found_of | gold_of)}


def counts_ExM(gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> np.ndarray:
    """Entities right, found and annotated of each example."""
    rows = [(len(set(f) & set(g)), len(f), len(g)) for f, g in zip(found, gold, strict=True)]
    return np.array(rows, np.int64).reshape(-1, 3)


def score(
    ids: Sequence[str], gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]], split_words: int
) -> Scores:
    """Rates, and a table of errors. `split_words`: how many annotated entities split a word."""
    scores = f1_scores("Entities by type", by_type(gold, found), counts_ExM(gold, found))
    scores.errors.extend(errors(ids, gold, found))
    scores.tables.append(_error_table(scores.errors))
    of_challenges = challenges.scores(gold, found)
    scores.values.update(of_challenges.values)
    scores.tables.extend(of_challenges.tables)
    scores.made_of.update(of_challenges.made_of)
    for label, counts in of_challenges.of_labels.items():
        scores.of_labels[label] = [*scores.of_labels[label], *counts]
    if split_words:
        title = "Annotated entities that begin or end inside a word, so that no tagging of words finds them exactly"
        scores.tables.append(CountTable(("", "entities"), [("all", split_words)], title))
    return scores


def errors(ids: Sequence[str], gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> list[dict[str, Any]]:
    """What is wrong, by id and characters.

    An annotated entity that was not found is paired with a spurious one: one at the same offsets ('wrong type'), else
    one of its type that overlaps it ('wrong boundary'), else any that does; each is in one pair only. The others are
    'missed' or 'spurious'.
    """
    wrong = []
    for id_, annotated, ours in zip(ids, gold, found, strict=True):
        missed, spurious = sorted(set(annotated) - set(ours)), sorted(set(ours) - set(annotated))
        for kind, pairs in (
            ("wrong type", lambda a, b: a[:2] == b[:2]),
            ("wrong boundary", lambda a, b: a.label == b.label and a.start < b.end and b.start < a.end),
            ("wrong type and boundary", lambda a, b: a.start < b.end and b.start < a.end),
        ):
            for one in list(missed):
                other = next((entity for entity in spurious if pairs(one, entity)), None)
                if other:
                    wrong.append({"id": id_, "error": kind, **one._asdict(), **_found(other)})
                    missed.remove(one)
                    spurious.remove(other)
        wrong += [{"id": id_, "error": "missed", **one._asdict()} for one in missed]
        wrong += [{"id": id_, "error": "spurious", **_found(one)} for one in spurious]
    return wrong


def _found(entity: Span) -> dict[str, Any]:
    return {f"found_{name}": value for name, value in entity._asdict().items()}


def _error_table(wrong: Sequence[dict[str, Any]]) -> CountTable:
    counts = Counter((error["error"], str(error.get("label", error.get("found_label")))) for error in wrong)
    types = sorted({label for _, label in counts})
    rows: list[tuple[str | int, ...]] = [(kind, *(counts[kind, label] for label in types)) for kind in KINDS]
    return CountTable(("error", *types), rows, "Errors by type (the annotated one, where there is one)")
