"""A pair of spans in its text as one row of tokens: the spans marked or blinded, and as much around them as fits.

Markers: four entries that BERT's vocabulary has and never uses, `[unused...]`, the first four there are, around head
and tail; where it lacks them '@' around the head and '#' around the tail. So the vocabulary and the weights keep their
shapes. Blinding: `@TYPE$` instead of each span, and one `@HEAD-TAIL$` where the two overlap, as in the BLUE
benchmark (Peng et al., 2019); what the spans say is hidden from the model.

Shape legend: T tokens of the text, markers included.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from clinicalbert_jax.errors import UserError
from clinicalbert_jax.finetune.inputs.reading import BadRecord
from clinicalbert_jax.finetune.inputs.tags import Span
from clinicalbert_jax.finetune.inputs.words import WordTokenizer

WAYS = ("markers", "blinding")


class Tokens(NamedTuple):
    """A whole text: ids, the characters of each ((0, 0) for a marker), and where head and tail lie among them."""

    ids_T: np.ndarray
    offsets_Tx2: np.ndarray
    head: slice
    tail: slice


class Marks(NamedTuple):
    """The tokens that begin and end the head, then the tail."""

    head_begins: int
    head_ends: int
    tail_begins: int
    tail_ends: int


def marks(entries: Sequence[str], tokenizer: WordTokenizer) -> Marks:
    """The markers of a vocabulary, whose entries come in the order of their ids; raises `UserError` for none."""
    unused = [entry for entry in entries if entry.startswith("[unused")][:4]
    if len(unused) == 4:
        return Marks(*map(tokenizer.id, unused))
    if not {"@", "#"} <= set(entries):
        raise UserError(
            "config.task.mark: expected four [unused...] entries or '@' and '#' in the model's vocabulary for "
            "'markers', found neither: set 'blinding'"
        )
    return Marks(*map(tokenizer.id, "@@##"))


def marked(text: str, head: Span, tail: Span, marks: Marks, tokenizer: WordTokenizer) -> Tokens:
    """The text with a marker before and after each span; where spans overlap, so do their markers."""
    # At one offset, ends come before beginnings; of two spans, the outer begins first and ends last.
    events = sorted(
        [
            (head.start, 1, -head.end, 0, "head_begins"),
            (head.end, 0, -head.start, 1, "head_ends"),
            (tail.start, 1, -tail.end, 1, "tail_begins"),
            (tail.end, 0, -tail.start, 0, "tail_ends"),
        ]
    )
    row, done = _Row(tokenizer), 0
    found = {}
    for offset, *_, what in events:
        row.add_text(text, done, offset)
        found[what] = len(row.ids)
        row.add([getattr(marks, what)], (0, 0))
        done = offset
    row.add_text(text, done, len(text))
    return row.tokens(
        slice(found["head_begins"], found["head_ends"] + 1), slice(found["tail_begins"], found["tail_ends"] + 1)
    )


def blinded(text: str, head: Span, tail: Span, tokenizer: WordTokenizer) -> Tokens:
    """The text with the type of each span instead of it."""
    if head.start < tail.end and tail.start < head.end:
        both = Span(min(head.start, tail.start), max(head.end, tail.end), f"{head.label}-{tail.label}")
        replaced = [both]
    else:
        replaced = sorted([head, tail])
    row, done = _Row(tokenizer), 0
    found = {}
    for span in replaced:
        row.add_text(text, done, span.start)
        begin = len(row.ids)
        row.add(tokenizer.ids(f"@{span.label}$")[0], (span.start, span.end))
        found[span] = slice(begin, len(row.ids))
        done = span.end
    row.add_text(text, done, len(text))
    return row.tokens(found.get(head, found[replaced[0]]), found.get(tail, found[replaced[0]]))


def around(tokens: Tokens, room: int) -> np.ndarray:
    """Which tokens a row of `room` holds, int [at most room], in order.

    All where they fit. Else head and tail, what lies between, and as much on either side; where even that is too long,
    head and tail with what is nearest to either. Raises `BadRecord` where head and tail alone do not fit.
    """
    length = len(tokens.ids_T)
    if length <= room:
        return np.arange(length)
    first, last = sorted([tokens.head, tokens.tail], key=lambda part: part.start)
    whole = slice(first.start, max(first.stop, last.stop))
    parts = [whole] if whole.stop - whole.start <= room else [first, last]
    positions_T = np.arange(length)
    distances = [np.maximum(part.start - positions_T, positions_T - part.stop + 1).clip(0) for part in parts]
    distance_T = np.min(distances, axis=0)
    if (distance_T == 0).sum() > room:
        raise BadRecord(f"expected head and tail of at most {room} tokens, found {(distance_T == 0).sum()}")
    return np.sort(np.argsort(distance_T, kind="stable")[:room])


class _Row:
    """Collects the tokens of a row."""

    def __init__(self, tokenizer: WordTokenizer) -> None:
        self._tokenizer = tokenizer
        self.ids: list[int] = []
        self._offsets: list[tuple[int, int]] = []

    def add_text(self, text: str, start: int, end: int) -> None:
        ids, offsets = self._tokenizer.ids(text[start:end])
        self.ids += ids
        self._offsets += [(start + begin, start + stop) for begin, stop in offsets]

    def add(self, ids: Sequence[int], characters: tuple[int, int]) -> None:
        self.ids += ids
        self._offsets += [characters] * len(ids)

    def tokens(self, head: slice, tail: slice) -> Tokens:
        offsets_Tx2 = np.array(self._offsets, np.int32).reshape(-1, 2)
        return Tokens(np.array(self.ids, np.int32), offsets_Tx2, head, tail)
