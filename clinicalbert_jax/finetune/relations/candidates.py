"""Documents with their entities, given or predicted, of which every pair that may be related is decided.

A pair may be related where the training data had pairs of its types, and where it lies no farther apart than the
farthest of these: so the pairs of a document are chosen as those that the model was trained with.
"""

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import permutations
from typing import NamedTuple

from clinicalbert_jax.finetune.inputs import fields
from clinicalbert_jax.finetune.inputs.reading import BadRecord
from clinicalbert_jax.finetune.inputs.record_files import Record
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.task import Example


@dataclass(frozen=True)
class Pair(Example):
    """Two spans of a text by characters, their types as labels, and how they are related ('': not known)."""

    text: str = field(repr=False)
    head: Span
    tail: Span
    label: str = ""

    @property
    def document(self) -> str:
        """What is resampled as one: all pairs of a patient, else of a text."""
        return self.patient or self.text


@dataclass(frozen=True)
class Document(Example):
    """A text with its entities, and the pairs of them that may be related."""

    text: str = field(repr=False)
    entities: tuple[Span, ...]
    pairs: tuple[Pair, ...]


class Kind(NamedTuple):
    """Pairs of a head and a tail of these types that the training data had.

    `most_between`: characters between the two, at most. `in_order`: the head came first always, with the types the
    other way round too: two drugs that interact are one pair, not two.
    """

    head: str
    tail: str
    most_between: int
    in_order: bool


def kinds(pairs: Iterable[Pair]) -> tuple[Kind, ...]:
    """The kinds of the training pairs."""
    by_types: dict[tuple[str, str], list[Pair]] = defaultdict(list)
    for pair in pairs:
        by_types[pair.head.label, pair.tail.label].append(pair)
    in_order = {types: all(pair.head[:2] <= pair.tail[:2] for pair in found) for types, found in by_types.items()}
    return tuple(
        Kind(
            *types,
            most_between=max(_between(pair.head, pair.tail) for pair in found),
            in_order=in_order[types] and in_order.get(types[::-1], False),
        )
        for types, found in sorted(by_types.items())
    )


def document(line: int, record: Record, known: Sequence[Kind]) -> Document:
    """`{"id": ..., "text": ..., "entities": [{"start": ..., "end": ..., "label": ...}], "patient": ...}`.

    Or as a conversion keeps it in `documents/`, see `plain`.
    """
    record = plain(record)
    text, id_ = fields.text(record, "text"), fields.identifier(record, str(line))
    if not isinstance(record["entities"], list):
        raise BadRecord("expected a list in the field 'entities', found otherwise")
    entities = tuple(sorted({fields.span(one, text, "an entity", "label") for one in record["entities"]}))
    patient = fields.optional_patient(record)
    pairs = [
        Pair(id_, line, patient, text, head, tail)
        for head, tail in permutations(entities, 2)
        if any(_is_of(kind, head, tail) for kind in known)
    ]
    return Document(id_, line, patient, text, entities, tuple(pairs))


def plain(record: Record) -> Record:
    """A document of `convert.standoff` as `document` reads it; entities of several parts become one, as in n2c2 2018.

    A record that is none comes back as it is. Raises `BadRecord` for relations that are not of two entities.
    """
    if "passages" not in record:
        return record
    try:
        spans = {one["id"]: _envelope(one["parts"], one["label"]) for one in record["entities"]}
        relations = []
        for one in record["relations"]:
            head, tail = (spans[target] for _, target in one["arguments"])
            relations.append({"label": one["label"], "head": _json(head, "type"), "tail": _json(tail, "type")})
    except (TypeError, KeyError, ValueError):
        raise BadRecord("expected a conversion's document, with relations of two entities, found otherwise") from None
    entities = [_json(span, "label") for span in spans.values()]
    patient = {"patient": record["patient"]} if record.get("patient") else {}
    return {"id": record["id"], "text": record["text"], "entities": entities, "relations": relations} | patient


def _envelope(parts: Sequence[Sequence[int]], label: str) -> Span:
    return Span(min(start for start, _ in parts), max(end for _, end in parts), label)


def _json(span: Span, label_field: str) -> Record:
    return {"start": span.start, "end": span.end, label_field: span.label}


def _is_of(kind: Kind, head: Span, tail: Span) -> bool:
    return (
        (head.label, tail.label) == (kind.head, kind.tail)
        and (head[:2] <= tail[:2] or not kind.in_order)
        and _between(head, tail) <= kind.most_between
    )


def _between(head: Span, tail: Span) -> int:
    """Characters between two spans; 0 where they overlap."""
    return max(0, max(head.start, tail.start) - min(head.end, tail.end))
