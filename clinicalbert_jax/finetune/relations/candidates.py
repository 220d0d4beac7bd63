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


@dataclass(frozen=True)
class Document(Example):
    """A text with its entities, and the pairs of them that may be related."""

    text: str = field(repr=False)
    entities: tuple[Span, ...]
    pairs: tuple[Pair, ...]


class Kind(NamedTuple):
    """Pairs of a head and a tail of these types that the training data had.

    `most_between`: characters between the two, at most. `in_order`: the types are one, and the head came first always.
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
    return tuple(
        Kind(
            head,
            tail,
            max(_between(pair.head, pair.tail) for pair in of_types),
            head == tail and all(pair.head <= pair.tail for pair in of_types),
        )
        for (head, tail), of_types in sorted(by_types.items())
    )


def document(line: int, record: Record, known: Sequence[Kind]) -> Document:
    """`{"id": ..., "text": ..., "entities": [{"start": ..., "end": ..., "label": ...}], "patient": ...}`."""
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


def _is_of(kind: Kind, head: Span, tail: Span) -> bool:
    return (
        (head.label, tail.label) == (kind.head, kind.tail)
        and (head <= tail or not kind.in_order)
        and _between(head, tail) <= kind.most_between
    )


def _between(head: Span, tail: Span) -> int:
    """Characters between two spans; 0 where they overlap."""
    return max(0, max(head.start, tail.start) - min(head.end, tail.end))
