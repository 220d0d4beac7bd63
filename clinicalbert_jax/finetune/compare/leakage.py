"""How much of a test set's text a model has read before, by runs of 13 words, and which documents hold it.

The length of a run is that of Brown et al. (2020), appendix C. What counts is the share of a document's words that
stand in a run which was found, as of tokens in Touvron et al. (2023, "Llama 2"), section A.6: then a text that was cut
into rows is found whole, though no run crosses a cut.

Texts are compared after the pipeline's own cleaning; capital letters, accents and punctuation aside, as where
`--exclude_text` leaves out notes. The text of a shard is restored from its masked rows.

Shape legend: T tokens, D documents, R runs, G patient groups.
"""

from collections.abc import Iterator, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clinicalbert_jax import cli
from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import patient_group
from clinicalbert_jax.data.tfrecord import Arrays, Shard
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.overlap import shard_texts, shingles, splits
from data_prep.overlap.spelling import Spelling, without_accents
from data_prep.overlap.splits import WORDS_IN_A_RUN
from data_prep.text import cleaning, sentences
from data_prep.wordpiece.tokenizer import TokenizedNotes, Tokenizer, tokenize

CONTAMINATED = 0.5  # the share of a document's words, of those that could be found, from which it counts as read
LEAST_FINDABLE = 0.4  # below it, what was not found may well have been read
_ROWS_AT_ONCE = 4096

Documents = Sequence[str]  # the text of each
Runs = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]  # hashes, and the document that each is of, in order


@dataclass(frozen=True)
class Found:
    """What of a test set was found in another text.

    `is_found_D`: for each document of the test set, which of its words; empty where it is too short to tell.
    `share_findable`: of the other text's words, those in pieces long enough to be found. `patients`: those of the test
    set whom the other text is about, as far as its notes name theirs; None where that cannot be known.
    """

    is_found_D: Sequence[npt.NDArray[np.bool_]]
    share_findable: float = 1.0
    patients: Set[str] | None = None

    @property
    def is_too_short_D(self) -> npt.NDArray[np.bool_]:
        """The documents that have no run."""
        return np.array([len(words) == 0 for words in self.is_found_D], bool)

    @property
    def fraction_D(self) -> npt.NDArray[np.float64]:
        """Of each document's words, the fraction that was found; 0 where it is too short."""
        return np.array([words.mean() if len(words) else 0.0 for words in self.is_found_D])

    @property
    def contaminated_D(self) -> npt.NDArray[np.bool_]:
        """The documents of which at least half the words were found that could be."""
        least = CONTAMINATED * max(self.share_findable, LEAST_FINDABLE)
        return ~self.is_too_short_D & (self.fraction_D >= least)

    @property
    def fraction(self) -> float:
        """The fraction of all words that were found; 0 where there are none."""
        words = np.concatenate([np.empty(0, bool), *self.is_found_D])
        return float(words.mean()) if len(words) else 0.0


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
    asked = {name: _runs(documents, tokenizer, spelling, deid_policy) for name, documents in test_sets.items()}
    wanted_R = np.unique(np.concatenate([np.empty(0, np.uint64), *(run_R for run_R, _ in asked.values())]))
    met_R, groups_G = np.zeros(len(wanted_R), bool), np.empty(0, np.int64)
    num_words = num_findable = 0
    rows_of_train = _training_rows(data_dir, manifest)
    num_rows = manifest.splits["train"].num_examples
    for rows in cli.progress_bar(rows_of_train, "looking for test texts", -(-num_rows // _ROWS_AT_ONCE), unit="part"):
        groups_G = np.union1d(groups_G, rows["patient_group"])
        texts = shard_texts.of_rows(rows, tokenizer)
        ids_T, begins_T, end_D = spelling.known_words(texts.ids_T, texts.begins_T, texts.end_D)
        words_D = np.diff(np.searchsorted(np.flatnonzero(begins_T), end_D), prepend=0)
        num_words += int(words_D.sum())
        num_findable += int(words_D[words_D >= WORDS_IN_A_RUN].sum())
        met_R |= _holds(splits.runs(spelling.hashes(ids_T, begins_T), begins_T, end_D)[0], wanted_R)
    groups = set(groups_G.tolist())
    return {
        name: Found(
            _found(len(documents), asked[name], wanted_R[met_R]),
            num_findable / max(1, num_words),
            {one for one in patients[name] if patient_group(one, salt) in groups}
            if salt is not None and patients and patients[name] and manifest.has_patients
            else None,
        )
        for name, documents in test_sets.items()
    }


def in_texts(documents: Documents, others: Documents, patients: Set[str] | None = None) -> Found:
    """What of a test set's `documents` others hold, such as those of the training file."""
    held_R, _ = _runs_of_texts(others)
    return Found(_found(len(documents), _runs_of_texts(documents), held_R), patients=patients)


def joined(found: Sequence[Found]) -> Found:
    """What was found in several places together, at least."""
    patients = [one.patients for one in found if one.patients is not None]
    is_known = len(patients) == len(found) or any(patients)
    return Found(
        [_together(words) for words in zip(*(one.is_found_D for one in found), strict=True)],
        min(one.share_findable for one in found),
        frozenset[str]().union(*patients) if is_known else None,
    )


def _together(words: Sequence[npt.NDArray[np.bool_]]) -> npt.NDArray[np.bool_]:
    """Of one document. Where datasets were cleaned in other ways, its words may differ: then the most in any."""
    if len({len(one) for one in words}) == 1:
        return np.any(words, axis=0)
    return max(words, key=lambda one: one.mean() if len(one) else 0.0)


def _found(num_documents: int, asked: Runs, held_R: npt.NDArray[np.uint64]) -> list[npt.NDArray[np.bool_]]:
    """For each document, which of its words stand in a run that is held; a document of n runs has n + 12 words."""
    run_R, document_R = asked
    ends_D = np.cumsum(np.bincount(document_R, minlength=num_documents))
    found = []
    for is_held_R in np.split(np.isin(run_R, held_R), ends_D[:-1]):
        is_run = len(is_held_R) > 0
        found.append(np.convolve(is_held_R, np.ones(WORDS_IN_A_RUN, np.int64)) > 0 if is_run else np.empty(0, bool))
    return found


def _runs(documents: Documents, tokenizer: Tokenizer, spelling: Spelling, deid_policy: str) -> Runs:
    """The runs of each document, split into words as in a dataset: what its tokenizer does not know is so here too."""
    split = [sentences.split(cleaning.clean(text, deid_policy)) for text in documents]
    notes: TokenizedNotes = tokenize(tokenizer, split, np.arange(len(split)), np.zeros(len(split), np.int32))
    begins_T = ~tokenizer.is_continuation()[notes.ids_T]
    begins_T[notes.sentence_offsets[:-1]] = True
    end_D = notes.sentence_offsets[notes.document_offsets[1:]]
    ids_T, begins_T, end_D = spelling.known_words(notes.ids_T, begins_T, end_D)
    run_R, note_R = splits.runs(spelling.hashes(ids_T, begins_T), begins_T, end_D)
    return run_R, notes.patient_D[note_R]  # which holds the numbers of the documents: some have no note


def _runs_of_texts(documents: Documents) -> Runs:
    """The runs of each document, independent of any tokenizer."""
    runs = [shingles.runs(without_accents(cleaning.clean(text, "keep")), WORDS_IN_A_RUN) for text in documents]
    return np.concatenate([np.empty(0, np.uint64), *runs]), np.repeat(np.arange(len(runs)), [len(one) for one in runs])


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
