"""What the data card tells beyond the manifest, counted bucket by bucket: cheap to make, small, and to be summed.

For whoever writes shards:

    kinds = PieceKinds.of(tokenizer.vocabulary)                        # once a process
    statistics = Statistics.of_bucket(notes, kinds, len(categories))   # once a bucket, from its `TokenizedNotes`
    statistics.add_pairs(notes.category_D[made.a_document], made.label)   # once a pass
    statistics.add_rows((arrays["sequence_ids"] > 0).sum(axis=1), max_seq_length)   # once a batch of rows
    json.dumps(statistics.to_json())                                   # kept beside the finished shard, in _work

and at the end `total = functools.reduce(Statistics.merge, map(Statistics.from_json, parts))`, then
`report.write(dataset_dir, manifest, total)`. Merging is exact and does not depend on the order, but for words
beyond `MAX_WORDS` (see `Statistics`). The JSON holds words below the 20-patient rule, so that it must stay in the
working directory; what `report.write` writes holds none.

Shape legend: T pieces of a bucket, W words, D documents, C categories, N pairs, R rows, V vocabulary.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng
from data_prep.wordpiece.tokenizer import TokenizedNotes

Ints = npt.NDArray[np.int64]

MAX_WORDS_OF_BUCKET = 10_000
MAX_WORDS = 200_000
FILL_BINS = 20  # of a row's fill: the last holds full rows too


@dataclass(frozen=True)
class PieceKinds:
    """What must be known of each entry of a vocabulary to count words."""

    vocabulary: tuple[str, ...]
    continues_V: npt.NDArray[np.bool_]  # '##...'
    has_letter_V: npt.NDArray[np.bool_]
    unknown_id: int

    @classmethod
    def of(cls, vocabulary: Sequence[str]) -> "PieceKinds":
        """Look at every entry of `vocabulary` once."""
        return cls(
            vocabulary=tuple(vocabulary),
            continues_V=np.array([token.startswith("##") for token in vocabulary]),
            has_letter_V=np.array([any(map(str.isalpha, token)) for token in vocabulary]),
            unknown_id=list(vocabulary).index("[UNK]"),
        )


@dataclass(frozen=True)
class Word:
    """A word that the vocabulary splits: its occurrences, pieces, and the patients whose notes hold it."""

    occurrences: int
    pieces: int
    patients: int


@dataclass
class Statistics:
    """Counts over notes, pairs and rows; C is the number of the manifest's categories.

    `words`: the words with a letter that the vocabulary splits. A patient's notes all lie in one bucket, so the
    patients of different buckets add up. To bound memory, a bucket keeps its `MAX_WORDS_OF_BUCKET` words of most
    patients and a sum its `MAX_WORDS`: a count may so be too low, by `uncounted_patients` at most, and never too
    high, so that the rule of 20 patients holds whatever was dropped.
    """

    words_C: Ints
    unknown_C: Ints
    pairs_Cx2: Ints  # by label: 0 the true next, 1 a random one
    row_fill: Ints
    words: dict[str, Word] = field(default_factory=dict)
    uncounted_patients: int = 0

    @classmethod
    def empty(cls, num_categories: int) -> "Statistics":
        """Nothing counted yet."""
        return cls(
            words_C=np.zeros(num_categories, np.int64),
            unknown_C=np.zeros(num_categories, np.int64),
            pairs_Cx2=np.zeros((num_categories, 2), np.int64),
            row_fill=np.zeros(FILL_BINS, np.int64),
        )

    @classmethod
    def of_bucket(cls, notes: TokenizedNotes, kinds: PieceKinds, num_categories: int) -> "Statistics":
        """Count the notes of a bucket, which must hold all notes of each of its patients."""
        counted = cls.empty(num_categories)
        if not len(notes.ids_T):
            return counted
        piece_ends_D = notes.sentence_offsets[notes.document_offsets]
        starts_W = _word_starts(notes, kinds)
        words_D = np.diff(np.searchsorted(starts_W, piece_ends_D))
        unknown_T = np.flatnonzero(notes.ids_T == kinds.unknown_id)
        unknown_D = np.diff(np.searchsorted(unknown_T, piece_ends_D))
        np.add.at(counted.words_C, notes.category_D, words_D)
        np.add.at(counted.unknown_C, notes.category_D, unknown_D)
        document_W = np.repeat(np.arange(len(words_D)), words_D)
        counted.words = _split_words(notes, kinds, starts_W, document_W)
        counted._keep_words(MAX_WORDS_OF_BUCKET)
        return counted

    def add_pairs(self, category_N: npt.NDArray, label_N: npt.NDArray) -> None:
        """Count next-sentence pairs by the category of their first segment and by label (1: random next)."""
        np.add.at(self.pairs_Cx2, (category_N, label_N), 1)

    def add_rows(self, tokens_R: npt.NDArray, max_seq_length: int) -> None:
        """Count rows by the fraction of their `max_seq_length` positions that hold a token."""
        bin_R = np.minimum(tokens_R * FILL_BINS // max_seq_length, FILL_BINS - 1)
        self.row_fill += np.bincount(bin_R, minlength=FILL_BINS)

    def merge(self, other: "Statistics") -> "Statistics":
        """The statistics of both."""
        words = dict(self.words)
        for word, more in other.words.items():
            known = words.get(word)
            words[word] = (
                Word(known.occurrences + more.occurrences, more.pieces, known.patients + more.patients)
                if known
                else more
            )
        arrays = {name: getattr(self, name) + getattr(other, name) for name in _ARRAYS}
        merged = Statistics(
            **arrays,
            words=words,
            uncounted_patients=self.uncounted_patients + other.uncounted_patients,
        )
        merged._keep_words(MAX_WORDS)
        return merged

    def to_json(self) -> dict[str, Any]:
        """As plain values, for `json.dumps`."""
        return dataclasses.asdict(self) | {
            **{name: getattr(self, name).tolist() for name in _ARRAYS},
            "words": {word: dataclasses.astuple(counts) for word, counts in self.words.items()},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Statistics":
        """The inverse of `to_json`."""
        return cls(
            **(
                dict(document)
                | {name: np.array(document[name], np.int64) for name in _ARRAYS}
                | {"words": {word: Word(*counts) for word, counts in document["words"].items()}}
            )
        )

    def _keep_words(self, limit: int) -> None:
        if len(self.words) <= limit:
            return
        ranked = sorted(self.words.items(), key=lambda item: (-item[1].patients, -item[1].occurrences, item[0]))
        self.uncounted_patients += ranked[limit][1].patients
        self.words = dict(ranked[:limit])


_ARRAYS = tuple(entry.name for entry in dataclasses.fields(Statistics) if entry.type is Ints)


def _word_starts(notes: TokenizedNotes, kinds: PieceKinds) -> Ints:
    starts_T = ~kinds.continues_V[notes.ids_T]
    starts_T[notes.sentence_offsets[:-1]] = True
    return np.flatnonzero(starts_T)


def _split_words(notes: TokenizedNotes, kinds: PieceKinds, starts_W: Ints, document_W: Ints) -> dict[str, Word]:
    """The words of two pieces and more that hold a letter."""
    pieces_W = np.diff(starts_W, append=len(notes.ids_T))
    letter_W = np.logical_or.reduceat(kinds.has_letter_V[notes.ids_T], starts_W)
    split_W = np.flatnonzero((pieces_W > 1) & letter_W)
    if not len(split_W):
        return {}
    starts_W, pieces_W = starts_W[split_W], pieces_W[split_W]
    patient_W = notes.patient_D[document_W[split_W]]
    # Equal words have equal keys: a 64-bit hash of their pieces in order.
    first_W = np.cumsum(pieces_W) - pieces_W
    place = np.arange(pieces_W.sum()) - np.repeat(first_W, pieces_W)
    ids = notes.ids_T[place + np.repeat(starts_W, pieces_W)]
    key_W = np.add.reduceat(_mixed(ids, place), first_W)
    _, example_U, word_W, occurrences_U = np.unique(key_W, return_index=True, return_inverse=True, return_counts=True)
    order_W = np.lexsort((patient_W, word_W))
    word_W, patient_W = word_W[order_W], patient_W[order_W]
    new_W = np.ones(len(word_W), bool)
    new_W[1:] = (word_W[1:] != word_W[:-1]) | (patient_W[1:] != patient_W[:-1])
    patients_U = np.bincount(word_W[new_W])
    words = {}
    counts = zip(starts_W[example_U], pieces_W[example_U], occurrences_U.tolist(), patients_U.tolist(), strict=True)
    for start, pieces, occurrences, patients in counts:
        first, *rest = (kinds.vocabulary[piece] for piece in notes.ids_T[start : start + pieces])
        words[first + "".join(piece.removeprefix("##") for piece in rest)] = Word(occurrences, int(pieces), patients)
    return words


def _mixed(ids: npt.NDArray, place: Ints) -> npt.NDArray[np.uint64]:
    """A well-mixed number of each piece and its place in the word."""
    return counter_rng.mix(ids.astype(np.uint64) << np.uint64(16) | place.astype(np.uint64))
