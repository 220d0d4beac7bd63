"""How much of a test set's text a model has read before, by runs of 13 words, and which documents hold it.

The length of a run is that of Brown et al. (2020), appendix C. What counts is the share of a document's words that
stand in a run which was found, as of tokens in Touvron et al. (2023, "Llama 2"), section A.6: then a text that was cut
into rows is found whole, though no run crosses a cut.

A document may be several texts, such as sentences. Whether they were read one by one or as a whole is not known: its
runs are those of the whole, which include those of each text.

Texts are compared after the pipeline's own cleaning; capital letters, accents and punctuation aside, as where
`--exclude_text` leaves out notes. The text of a shard is restored from its masked rows.

Shape legend: T tokens, N texts, D documents (or pieces of rows), R runs, G patient groups, F places of `joined`.
"""

import math
from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from clinicalbert_jax import cli
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import patient_group
from clinicalbert_jax.data.tfrecord import Arrays, Shard
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.overlap import shard_texts, shingles, splits
from data_prep.overlap.spelling import Spelling
from data_prep.overlap.splits import WORDS_IN_A_RUN
from data_prep.text import cleaning, sentences
from data_prep.wordpiece.tokenizer import TokenizedNotes, Tokenizer, tokenize

CONTAMINATED = 0.5  # the share of a document's words, of those that could be found, from which it counts as read
LEAST_FINDABLE = 0.4  # of less than this share, what was not found may well have been read
_NEARLY_ALL = 0.9
_ROWS_AT_ONCE = 4096

Documents = Sequence[Sequence[str]]  # the texts of each, such as its sentences
Words = npt.NDArray[np.bool_]


@dataclass(frozen=True)
class Found:
    """What of a test set was found in another text. What ends in D has one entry for each document of the test set.

    `is_found_D`: which of its words. `findable_D`: of all its words, the share in texts of at least 13 known words, as
    could be found were its texts read one by one. `is_unknown_D`: whether it was read cannot be told.
    `share_findable`: of the other text's words, the share in pieces of at least 13 known words. `is_least`: more may
    have been read than was found. `patients`: those of the test set whom the other text is about; None where its notes
    name none, and with `are_patients_least` where some do not.
    """

    is_found_D: Sequence[Words]
    findable_D: npt.NDArray[np.float64]
    is_contaminated_D: npt.NDArray[np.bool_]
    is_unknown_D: npt.NDArray[np.bool_]
    share_findable: float
    is_least: bool
    patients: Set[str] | None
    are_patients_least: bool = False

    @property
    def fraction_D(self) -> npt.NDArray[np.float64]:
        """Of each document's words, the fraction that was found; 0 where it has none."""
        return np.array([words.mean() if len(words) else 0.0 for words in self.is_found_D])

    @property
    def fraction(self) -> float:
        """The fraction found of all words of documents that could be found; NaN where there are none."""
        pairs = zip(self.is_found_D, self.findable_D, strict=True)
        words = np.concatenate([np.empty(0, bool), *(words for words, share in pairs if share >= LEAST_FINDABLE)])
        return float(words.mean()) if len(words) else math.nan


def in_shards(
    test_sets: Mapping[str, Documents],
    data_dir: Path,
    patients: Mapping[str, Set[str]] | None = None,
    salt: bytes | None = None,
) -> dict[str, Found]:
    """What of each test set the training split of a pre-training dataset holds.

    With the `salt` of the dataset also which of a test set's `patients` it is about, where its notes named theirs.
    """
    manifest = Manifest.load(data_dir)
    tokenizer = Tokenizer(bert_tokenizer.read(data_dir))
    spelling, deid_policy = Spelling(tokenizer), str(manifest.options.get("deid_policy"))
    asked = {name: _asked(documents, tokenizer, spelling, deid_policy) for name, documents in test_sets.items()}
    wanted_R = np.unique(np.concatenate([np.empty(0, np.uint64), *(of.run_R for of in asked.values())]))
    met_R, groups_G = np.zeros(len(wanted_R), bool), np.empty(0, np.int64)
    num_words = num_findable = 0
    num_parts = sum(-(-shard.num_examples // _ROWS_AT_ONCE) for shard in manifest.splits["train"].shards)
    parts = _training_rows(data_dir, manifest)
    for rows in cli.progress_bar(parts, "looking for test texts", num_parts, unit="part"):
        groups_G = np.union1d(groups_G, rows["patient_group"])
        texts = shard_texts.of_rows(rows, tokenizer)
        ids_T, begins_T, end_D = spelling.known_words(texts.ids_T, texts.begins_T, texts.end_D)
        known_D = _num_words(begins_T, end_D)
        num_words += int(known_D.sum()) + int(spelling.is_unknown(texts.ids_T).sum())
        num_findable += int(known_D[known_D >= WORDS_IN_A_RUN].sum())
        met_R |= _holds(splits.runs(spelling.hashes(ids_T, begins_T), begins_T, end_D)[0], wanted_R)
    groups = set(groups_G.tolist())
    return {
        name: _judged(
            asked[name],
            wanted_R[met_R],
            num_findable / max(1, num_words),
            {one for one in patients[name] if patient_group(one, salt) in groups}
            if salt is not None and patients and patients[name] and manifest.has_patients
            else None,
        )
        for name in test_sets
    }


def in_texts(documents: Documents, others: Documents, patients: Set[str] | None = None) -> Found:
    """What of a test set's `documents` others hold, such as those of the training file."""
    return _judged(_asked_of_texts(documents), _asked_of_texts(others).run_R, 1.0, patients)


def joined(found: Sequence[Found]) -> Found:
    """What was found in several places together.

    Where datasets were cleaned in other ways, the words of a document may not be the same; then it is at least the
    most in any of them, and at most the sum.
    """
    if len(found) == 1:
        return found[0]
    words_D = list(zip(*(one.is_found_D for one in found), strict=True))
    is_same_D = np.array([len({len(words) for words in of}) == 1 for of in words_D], bool)
    fraction_FxD = np.array([one.fraction_D for one in found])
    findable_D = np.min([one.findable_D for one in found], axis=0)
    share_findable = min(one.share_findable for one in found)
    is_found_D = [
        np.any(words, axis=0) if is_same else words[most]
        for words, is_same, most in zip(words_D, is_same_D, fraction_FxD.argmax(0), strict=True)
    ]
    union_D = np.array([words.mean() if len(words) else 0.0 for words in is_found_D])
    least_D = _least(findable_D, max(one.share_findable for one in found))
    is_contaminated_D = (union_D >= least_D) | np.any([one.is_contaminated_D for one in found], axis=0)
    is_unknown_D = np.any([one.is_unknown_D for one in found], axis=0)
    is_unknown_D |= ~is_same_D & (fraction_FxD.sum(0) >= least_D)
    patients = [one.patients for one in found if one.patients is not None]
    is_told = len(patients) == len(found) or any(patients)
    return Found(
        is_found_D,
        findable_D,
        is_contaminated_D,
        is_unknown_D & ~is_contaminated_D,
        share_findable,
        not is_same_D.all() or any(one.is_least for one in found),
        frozenset[str]().union(*patients) if is_told else None,
        are_patients_least=len(patients) < len(found),
    )


class _Asked(NamedTuple):
    """The runs of each document, in order, and how much of it could be found; a document of n runs has n + 12 words."""

    run_R: npt.NDArray[np.uint64]
    document_R: npt.NDArray[np.int64]
    findable_D: npt.NDArray[np.float64]


def _judged(asked: _Asked, held_R: npt.NDArray[np.uint64], share_findable: float, patients: Set[str] | None) -> Found:
    ends_D = np.cumsum(np.bincount(asked.document_R, minlength=len(asked.findable_D)))
    is_found_D: list[Words] = []
    for is_held_R in np.split(np.isin(asked.run_R, held_R), ends_D[:-1]) if len(ends_D) else ():
        covered = np.convolve(is_held_R, np.ones(WORDS_IN_A_RUN, np.int64)) if len(is_held_R) else np.empty(0)
        is_found_D.append(covered > 0)
    fraction_D = np.array([words.mean() if len(words) else 0.0 for words in is_found_D])
    is_contaminated_D = fraction_D >= _least(asked.findable_D, share_findable)
    is_unknown_D = ~is_contaminated_D & (np.minimum(asked.findable_D, share_findable) < LEAST_FINDABLE)
    return Found(
        is_found_D,
        asked.findable_D,
        is_contaminated_D,
        is_unknown_D,
        share_findable,
        share_findable < _NEARLY_ALL,
        patients,
    )


def _least(findable_D: npt.NDArray[np.float64], share_findable: float) -> npt.NDArray[np.float64]:
    """The fraction of each document's words from which it counts as read."""
    return CONTAMINATED * np.maximum(np.minimum(findable_D, share_findable), LEAST_FINDABLE)


def _asked(documents: Documents, tokenizer: Tokenizer, spelling: Spelling, deid_policy: str) -> _Asked:
    """The runs of each document, split into words as in a dataset: what its tokenizer does not know is so here too."""
    split = [sentences.split(cleaning.clean(text, deid_policy)) for texts in documents for text in texts]
    document_N = np.repeat(np.arange(len(documents)), [len(texts) for texts in documents])
    notes: TokenizedNotes = tokenize(tokenizer, split, document_N, np.zeros(len(split), np.int32))
    document_N, end_N = notes.patient_D, notes.sentence_offsets[notes.document_offsets[1:]]  # of texts with a token
    begins_T = ~tokenizer.is_continuation()[notes.ids_T]
    begins_T[notes.sentence_offsets[:-1]] = True
    unknown_N = np.diff(np.cumsum(np.append(0, spelling.is_unknown(notes.ids_T)))[end_N], prepend=0)
    ids_T, begins_T, end_N = spelling.known_words(notes.ids_T, begins_T, end_N)
    known_N = _num_words(begins_T, end_N)
    is_last_N = np.append(document_N[1:] != document_N[:-1], True)[: len(document_N)]
    run_R, number_R = splits.runs(spelling.hashes(ids_T, begins_T), begins_T, end_N[is_last_N])
    return _Asked(
        run_R,
        document_N[is_last_N][number_R],
        _findable(document_N, known_N, unknown_N, len(documents)),
    )


def _asked_of_texts(documents: Documents) -> _Asked:
    """The runs of each document, independent of any tokenizer."""
    cleaned = [[cleaning.clean(text, "keep") for text in texts] for texts in documents]
    words_N = np.array([shingles.num_words(text) for texts in cleaned for text in texts], np.int64)
    document_N = np.repeat(np.arange(len(documents)), [len(texts) for texts in documents])
    runs = [shingles.runs("\n".join(texts), WORDS_IN_A_RUN) for texts in cleaned]
    return _Asked(
        np.concatenate([np.empty(0, np.uint64), *runs]),
        np.repeat(np.arange(len(runs)), [len(one) for one in runs]),
        _findable(document_N, words_N, np.zeros_like(words_N), len(documents)),
    )


def _findable(
    document_N: npt.NDArray[np.int64],
    known_N: npt.NDArray[np.int64],
    unknown_N: npt.NDArray[np.int64],
    num_documents: int,
) -> npt.NDArray[np.float64]:
    """Of each document's words, the share in texts of at least 13 known ones, for texts that are N."""
    of_long_N = np.where(known_N >= WORDS_IN_A_RUN, known_N, 0)
    long_D, all_D = (np.bincount(document_N, of, num_documents) for of in (of_long_N, known_N + unknown_N))
    return long_D / np.maximum(1, all_D)


def _num_words(begins_T: npt.NDArray[np.bool_], end_D: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    """The words of each text."""
    return np.diff(np.searchsorted(np.flatnonzero(begins_T), end_D), prepend=0)


def _training_rows(data_dir: Path, manifest: Manifest) -> Iterator[Arrays]:
    features = manifest.layout.features()
    for shard in manifest.splits["train"].shards:
        opened = Shard(data_dir / shard.file, features)
        for start in range(0, len(opened), _ROWS_AT_ONCE):
            yield opened.read(range(start, min(start + _ROWS_AT_ONCE, len(opened))))


def _holds(run_R: npt.NDArray[np.uint64], wanted_R: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    """Which of the sorted `wanted_R` are among `run_R`."""
    met_R = np.zeros(len(wanted_R), bool)
    if len(wanted_R):
        at_R = np.minimum(np.searchsorted(wanted_R, run_R), len(wanted_R) - 1)
        met_R[at_R[wanted_R[at_R] == run_R]] = True
    return met_R
