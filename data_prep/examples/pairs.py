"""Next-sentence pairs of a bucket of documents, as integers: a segment is one slice of the bucket's pieces.

Three policies. 'balanced' and 'hard' lose nothing and are even by construction: a document is split into chunks
of whole sentences, as many as fit; a chunk becomes a pair. The pair is the chunk's two parts (label 0), or
its first part with sentences of another patient (label 1), in which case its second part opens the next
chunk. 'hard' takes the other patient's sentences from the same section and category as those they stand for.
'google' is the published policy, google-research/bert `create_pretraining_data.py`, its truncation and its
uneven labels included.

Shape legend: T pieces, S sentences, D documents, N pairs.
"""

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng
from data_prep.wordpiece.tokenizer import TokenizedNotes

NUM_SPECIALS = 3  # [CLS] A [SEP] B [SEP]
_TRIES = 20


@dataclass(frozen=True)
class PairConfig:
    """How pairs are made; `max_pieces` is what a row holds besides its three special tokens."""

    policy: str
    max_pieces: int
    short_seq_prob: float


class Pairs(NamedTuple):
    """N pairs: where the segments lie among the bucket's pieces, label 1 for a random next, the documents."""

    a_start: npt.NDArray[np.int64]
    a_end: npt.NDArray[np.int64]
    b_start: npt.NDArray[np.int64]
    b_end: npt.NDArray[np.int64]
    label: npt.NDArray[np.int64]
    a_document: npt.NDArray[np.int64]
    b_document: npt.NDArray[np.int64]

    def sizes(self) -> npt.NDArray[np.int64]:
        """Tokens of each pair, the special ones included."""
        return self.a_end - self.a_start + self.b_end - self.b_start + NUM_SPECIALS


def make(
    notes: TokenizedNotes,
    continues_T: npt.NDArray[np.bool_],
    config: PairConfig,
    key: counter_rng.Keys,
    counts: Counter[str],
) -> Pairs:
    """The pairs of one pass over a bucket, in the order of its documents.

    `continues_T` tells the pieces that continue a word: no segment of ours begins with one unless a word is
    longer than a row. What could not be done as the policy has it is added to `counts`.
    """
    maker = _Maker(notes, continues_T, config, _Draws(key), counts)
    rows = maker.google() if config.policy == "google" else maker.balanced()
    flat = np.fromiter((value for row in rows for value in row), np.int64)
    return Pairs(*flat.reshape(-1, len(Pairs._fields)).T.copy())


class _Draws:
    """Uniform floats in [0, 1), one after the other."""

    def __init__(self, key: counter_rng.Keys) -> None:
        self._floats = self._stream(key)

    def __call__(self) -> float:
        return next(self._floats)

    def below(self, count: int) -> int:
        """A whole number in [0, count)."""
        return int(next(self._floats) * count)

    @staticmethod
    def _stream(key: counter_rng.Keys) -> Iterator[float]:
        block = 0
        while True:
            yield from counter_rng.uniform(counter_rng.fold(key, block), 8192).ravel().tolist()
            block += 1


class _Maker:
    """One pass. Python lists throughout: the loops touch single integers."""

    def __init__(
        self,
        notes: TokenizedNotes,
        continues_T: npt.NDArray[np.bool_],
        config: PairConfig,
        draw: _Draws,
        counts: Counter[str],
    ) -> None:
        self.config, self.draw, self.counts = config, draw, counts
        self.continues = continues_T.astype(np.uint8).tobytes()
        self.sentence_ends: list[int] = notes.sentence_offsets[1:].tolist()
        self.document_ends: list[int] = notes.document_offsets.tolist()  # in sentences
        self.num_documents = len(self.document_ends) - 1
        self.patients: list[int] = notes.patient_D.tolist()
        document_S = np.repeat(np.arange(self.num_documents), np.diff(notes.document_offsets))
        self.document_of: list[int] = document_S.tolist()
        self.has_other_patient = len(set(self.patients)) > 1
        self.surplus = 0  # random nexts less true ones, so far
        if config.policy == "hard":
            self._group_by_kind(notes, document_S)

    # --- balanced and hard

    def balanced(self) -> Iterator[tuple[int, ...]]:
        for document in range(self.num_documents):
            yield from self._document(document)
        if not self.has_other_patient and self.num_documents:
            self.counts["buckets of a single patient, with true nexts only"] += 1

    def _document(self, document: int) -> Iterator[tuple[int, ...]]:
        ends, draw, longest = self.sentence_ends, self.draw, self.config.max_pieces
        first, stop = self.document_ends[document], self.document_ends[document + 1]
        start = ends[first - 1] if first else 0
        while first < stop:
            target = longest
            if draw() < self.config.short_seq_prob:
                target = 2 + draw.below(longest - 1)
            after = bisect_right(ends, start + target, first, stop)  # the first sentence that does not fit
            if after - first < 2:  # a short target still takes two whole sentences, or one, where a row holds them
                after = bisect_right(ends, start + longest, first, min(first + 2, stop))
            end = ends[after - 1] if after > first else self._boundary_before(start, start + longest)
            reaches_end = after == stop

            if after - first >= 2:
                inner = first + 1 + draw.below(after - first - 1)  # the sentence that opens the second part
                middle = ends[inner - 1]
            else:
                inner, middle = first, self._boundary_inside(start, end)
            if middle == end:  # a single word: there is no second part
                pair = self._alone(document, start, end, first)
                if pair:
                    yield pair
                first, start = after, end
                continue
            if self._takes_random_next():
                # As long as the part it stands for, where that ends the note: length must not give the label
                # away.
                room = (end if reaches_end else max(end, start + target)) - middle
                b_start, b_end = self._other(document, inner, room, longest - (middle - start), inside=inner == first)
                yield start, middle, b_start, b_end, 1, document, self.other_document
                first, start = inner, middle
            else:
                yield start, middle, middle, end, 0, document, document
                first, start = after, end

    def _alone(self, document: int, start: int, end: int, sentence: int) -> tuple[int, ...] | None:
        """A pair of a first part that has no second: only a random next will do."""
        if not self.has_other_patient:
            self.counts["single words dropped, for want of a second segment"] += 1
            return None
        self.surplus += 1
        self.counts["random nexts after a single word"] += 1
        end = min(end, start + self.config.max_pieces - 1)
        room = self.config.max_pieces - (end - start)
        following = min(sentence + 1, self.document_ends[document + 1] - 1)
        b_start, b_end = self._other(document, following, room, room, inside=False)
        return start, end, b_start, b_end, 1, document, self.other_document

    def _takes_random_next(self) -> bool:
        """A fair coin, whose next throw always makes up for the last."""
        if not self.has_other_patient:
            return False
        label = self.draw() < 0.5 if self.surplus == 0 else self.surplus < 0
        self.surplus += 1 if label else -1
        return label

    def _other(self, document: int, sentence: int, room: int, most: int, inside: bool) -> tuple[int, int]:
        """Consecutive sentences of another patient, as many as fit in `room`; sets `other_document`.

        `inside`: begin inside a sentence, as the second part that they stand for does. At least one sentence is
        taken, truncated at a word where it does not fit.
        """
        found = self._other_sentence(document, sentence, room)
        self.other_document = other = self.document_of[found]
        start = self.sentence_ends[found - 1] if found else 0
        if inside:
            boundary = self._boundary_inside(start, self.sentence_ends[found])
            start = boundary if boundary < self.sentence_ends[found] else start
        after = bisect_right(self.sentence_ends, start + room, found, self.document_ends[other + 1])
        if after > found:
            return start, self.sentence_ends[after - 1]
        end = self._boundary_before(start, start + room)
        if self.continues[end : end + 1] == b"\1":  # not one word fits: take it all the same, if the row has room
            word_end = self.continues.find(0, end, self.sentence_ends[found])
            end = min(word_end if word_end > 0 else self.sentence_ends[found], start + most)
        return start, end

    def _other_sentence(self, document: int, sentence: int, room: int) -> int:
        """A sentence of another patient; of several drawn, one that fits with its document's rest filling
        `room`.
        """
        patient, ends = self.patients[document], self.sentence_ends
        fallback = -1
        for kind, pool in self._pools(sentence):
            for _ in range(_TRIES):
                found = pool[self.draw.below(len(pool))] if pool is not None else self.draw.below(len(ends))
                other = self.document_of[found]
                if self.patients[other] == patient:
                    continue
                start = ends[found - 1] if found else 0
                fits = ends[found] - start <= room
                if fits and ends[self.document_ends[other + 1] - 1] - start >= room:
                    return found
                if fallback < 0 or fits:
                    fallback = found
            if fallback >= 0:
                return fallback
            if pool is not None:
                self.counts[f"random nexts not of the same {kind}, for want of one"] += 1
        # One patient holds nearly every sentence of the bucket: look through the others.
        documents = [d for d, other in enumerate(self.patients) if other != patient]
        other = documents[self.draw.below(len(documents))]
        first, stop = self.document_ends[other], self.document_ends[other + 1]
        return first + self.draw.below(stop - first)

    def _pools(self, sentence: int) -> Iterator[tuple[str, list[int] | None]]:
        """Where to look for a random next, best first; None: among all sentences."""
        if self.config.policy == "hard":
            yield "section", self.of_section[self.section_of[sentence]]
            yield "category", self.of_category[self.category_of[sentence]]
        yield "bucket", None

    def _group_by_kind(self, notes: TokenizedNotes, document_S: npt.NDArray[np.int64]) -> None:
        category_S = notes.category_D[document_S].astype(np.int64)
        section_S = category_S << 32 | notes.sections_S.astype(np.uint32)
        self.section_of, self.category_of = section_S.tolist(), category_S.tolist()
        self.of_section, self.of_category = _groups(self.section_of), _groups(self.category_of)

    def _boundary_before(self, start: int, limit: int) -> int:
        """The last beginning of a word in (start, limit]; `limit` itself where a single word fills it."""
        at = min(limit, len(self.continues))
        while at < len(self.continues) and at > start and self.continues[at]:
            at -= 1
        return at if at > start else limit

    def _boundary_inside(self, start: int, end: int) -> int:
        """A beginning of a word within (start, end), near a random place; `end` where there is none."""
        if end - start < 2:
            return end
        drawn = start + 1 + self.draw.below(end - start - 1)
        at = self.continues.find(0, drawn, end)
        if at < 0:
            at = self.continues.rfind(0, start + 1, drawn)
        return at if at > 0 else end

    # --- google

    def google(self) -> Iterator[tuple[int, ...]]:
        """The published policy; its random documents are of other patients, and lie in the same bucket."""
        ends, draw, longest = self.sentence_ends, self.draw, self.config.max_pieces
        for document in range(self.num_documents):
            target = longest
            if draw() < self.config.short_seq_prob:
                target = 2 + draw.below(longest - 1)
            first, stop = self.document_ends[document], self.document_ends[document + 1]
            while first < stop:
                start = ends[first - 1] if first else 0
                # Sentences up to and with the one that reaches the target.
                after = min(bisect_right(ends, start + target - 1, first, stop) + 1, stop)
                inner = first + 1 + draw.below(after - first - 1) if after - first >= 2 else after
                middle = ends[inner - 1]
                if after - first == 1 or draw() < 0.5:
                    b_start, b_end, other = self._google_other(document, target - (middle - start))
                    label, after = 1, inner
                else:
                    b_start, b_end, other, label = middle, ends[after - 1], document, 0
                first = after
                if b_end == b_start:
                    continue
                yield *self._truncated(start, middle, b_start, b_end), label, document, other

    def _google_other(self, document: int, target: int) -> tuple[int, int, int]:
        if not self.has_other_patient:
            self.counts["pairs dropped, for want of another patient"] += 1
            return 0, 0, document
        other = document
        while self.patients[other] == self.patients[document]:
            other = self.draw.below(self.num_documents)
        first, stop = self.document_ends[other], self.document_ends[other + 1]
        first += self.draw.below(stop - first)
        start = self.sentence_ends[first - 1] if first else 0
        after = min(bisect_right(self.sentence_ends, start + target - 1, first, stop) + 1, stop)
        return start, self.sentence_ends[after - 1], other

    def _truncated(self, a_start: int, a_end: int, b_start: int, b_end: int) -> tuple[int, int, int, int]:
        """Take pieces off the longer segment, each from a random end, until the pair fits."""
        a, b = a_end - a_start, b_end - b_start
        excess = a + b - self.config.max_pieces
        if excess <= 0:
            return a_start, a_end, b_start, b_end
        # One at a time from the longer, B where they are equal: first down to equal lengths, then in turn.
        level = min(excess, abs(a - b))
        rest = excess - level
        from_a = (level if a > b else 0) + rest // 2
        from_b = excess - from_a
        a_front, b_front = self._coin_sum(from_a), self._coin_sum(from_b)
        return a_start + a_front, a_end - from_a + a_front, b_start + b_front, b_end - from_b + b_front

    def _coin_sum(self, count: int) -> int:
        """How many of `count` fair coins show heads."""
        heads = 0
        while count > 0:
            heads += (self.draw.below(1 << 48) & ((1 << min(count, 48)) - 1)).bit_count()
            count -= 48
        return heads


def _groups(kinds: list[int]) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for sentence, kind in enumerate(kinds):
        groups.setdefault(kind, []).append(sentence)
    return groups
