"""Precision, recall and F1 of entities: right means the same start, end and type, as seqeval counts in strict mode.

Shape legend: E examples, M counts (right, found, annotated).
"""

from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from clinicalbert_jax.finetune import rates
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.rates import Rates, in_percent
from clinicalbert_jax.finetune.task import Scores, Table

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
    """Micro and macro averages, a table by type, a table of errors. `split_words`: entities that cut a word in two."""
    types = by_type(gold, found)
    by_label = {label: rates.of_counts(*counts) for label, counts in types.items()}
    sums_M = counts_ExM(gold, found).sum(0)
    micro = rates.of_counts(*sums_M.tolist())
    macro = Rates(*np.mean([*by_label.values()], axis=0).tolist()) if by_label else Rates(0.0, 0.0, 0.0)
    values = {**micro._asdict(), **{f"macro_{name}": value for name, value in macro._asdict().items()}}
    values |= {f"{label}/{name}": v for label, one in by_label.items() for name, v in one._asdict().items()}
    wrong = errors(ids, gold, found)
    rows: list[tuple[str | int, ...]] = [(label, *types[label], *in_percent(by_label[label])) for label in types]
    rows += [("micro average", *sums_M.tolist(), *in_percent(micro)), ("macro average", "", "", "", *in_percent(macro))]
    header = ("type", "right", "found", "annotated", "precision", "recall", "F1")
    tables = [Table("Entities by type", header, rows), _error_table(wrong)]
    if split_words:
        title = "Annotated entities that begin or end inside a word, so that no tagging of words finds them exactly"
        tables.append(Table(title, ("entities",), [(split_words,)]))
    return Scores(values, "f1", tables, errors=wrong)


def errors(ids: Sequence[str], gold: Sequence[Sequence[Span]], found: Sequence[Sequence[Span]]) -> list[dict[str, Any]]:
    """What is wrong, by id and characters.

    An annotated entity that was not found is paired with a spurious one: at the same place ('wrong type'), else one of
    its type that overlaps it ('wrong boundary'), else any that does; each is in one pair only. What is left is 'missed'
    or 'spurious'.
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
                    wrong.append({"id": id_, "error": kind, **_annotated(one), **_found(other)})
                    missed.remove(one)
                    spurious.remove(other)
        wrong += [{"id": id_, "error": "missed", **_annotated(one)} for one in missed]
        wrong += [{"id": id_, "error": "spurious", **_found(one)} for one in spurious]
    return wrong


def _annotated(entity: Span) -> dict[str, Any]:
    return entity._asdict()


def _found(entity: Span) -> dict[str, Any]:
    return {f"found_{name}": value for name, value in entity._asdict().items()}


def _error_table(wrong: Sequence[dict[str, Any]]) -> Table:
    counts = Counter((error["error"], str(error.get("label", error.get("found_label")))) for error in wrong)
    types = sorted({label for _, label in counts})
    rows: list[tuple[str | int, ...]] = [(kind, *(counts[kind, label] for label in types)) for kind in KINDS]
    return Table("Errors by type (the annotated one, where there is one)", ("error", *types), rows)
