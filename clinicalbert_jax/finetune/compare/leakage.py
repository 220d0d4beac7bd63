"""How much of a test set's text a model has read before, by runs of 13 words, and which documents hold it.

The length of a run is that of Brown et al. (2020), appendix C. Texts are compared after the pipeline's own cleaning, as
words of the tokenizer with which the shards were made; the text of a shard is restored from its masked rows.

A document may be several texts, such as sentences. Whether they were read one by one or as a whole is not known: both
are looked for, and that of which more is found counts.

Shape legend: N texts, T tokens, D documents, R runs, G patient groups.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data.manifest import Manifest
from clinicalbert_jax.data.patients import patient_group
from clinicalbert_jax.data.tfrecord import Arrays, Shard
from clinicalbert_jax.tokenizer_files import bert_tokenizer
from data_prep.overlap import shard_texts, splits
from data_prep.text import cleaning, sentences
from data_prep.wordpiece.tokenizer import TokenizedNotes, Tokenizer, tokenize

CONTAMINATED = 0.5  # the fraction of a document's runs from which it counts as read before
_ROWS_AT_ONCE = 4096

Documents = Sequence[Sequence[str]]  # the texts of each
Runs = tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]  # hashes, and the document or text that each is of


@dataclass(frozen=True)
class Found:
    """What of a test set was found in another text. The arrays have one entry for each document of the test set.

    `runs_D`: its runs of 13 words, 0 where it is too short to tell. `found_D`: those that the other text holds too.
    `num_patients`: how many of the test set's patients the other text is about; None where that cannot be known.
    """

    runs_D: npt.NDArray[np.int64]
    found_D: npt.NDArray[np.int64]
    num_patients: int | None = None

    @property
    def fraction_D(self) -> npt.NDArray[np.float64]:
        """Of each document's runs, the fraction that was found."""
        return self.found_D / np.maximum(1, self.runs_D)

    @property
    def contaminated_D(self) -> npt.NDArray[np.bool_]:
        """The documents of which at least half the runs were found."""
        return self.found_D >= np.maximum(1, CONTAMINATED * self.runs_D)

    @property
    def fraction(self) -> float:
        """The fraction of all runs that were found; 0 where there are none."""
        return float(self.found_D.sum() / max(1, self.runs_D.sum()))


def in_shards(
    documents: Documents, data_dir: Path, patients: frozenset[str] = frozenset(), salt: bytes | None = None
) -> Found:
    """What of a test set's `documents` the training split of a pre-training dataset holds.

    With the `salt` of the dataset also how many of the `patients` it is about, where its notes named theirs.
    """
    manifest = Manifest.load(data_dir)
    tokenizer = Tokenizer(bert_tokenizer.read(data_dir))
    asked = _both_ways(documents, tokenizer, str(manifest.options.get("deid_policy")))
    wanted_R = np.unique(np.concatenate([run_R for run_R, _ in asked]))
    met_R, groups_G = np.zeros(len(wanted_R), bool), np.empty(0, np.int64)
    for rows in _training_rows(data_dir, manifest):
        groups_G = np.union1d(groups_G, rows["patient_group"])
        met_R |= _holds(shard_texts.of_rows(rows, tokenizer).runs()[0], wanted_R)
    num_patients = None
    if salt is not None and patients and manifest.has_patients:
        num_patients = len({patient_group(patient, salt) for patient in patients} & set(groups_G.tolist()))
    return _found(len(documents), asked, wanted_R[met_R], num_patients)


def in_texts(documents: Documents, others: Documents, tokenizer: Tokenizer) -> Found:
    """What of a test set's `documents` others hold, such as those of the training file."""
    held_R = np.concatenate([run_R for run_R, _ in _both_ways(others, tokenizer, "keep")])
    return _found(len(documents), _both_ways(documents, tokenizer, "keep"), held_R)


def joined(found: Sequence[Found]) -> Found:
    """What was found in several places at least, by document the most in any of them."""
    patients = [one.num_patients for one in found if one.num_patients is not None]
    most_1xD = np.argmax([one.fraction_D for one in found], axis=0)[None]
    runs_D, found_D = (
        np.take_along_axis(np.stack(counts), most_1xD, axis=0)[0]
        for counts in ([one.runs_D for one in found], [one.found_D for one in found])
    )
    return Found(runs_D, found_D, max(patients) if patients else None)


def _found(num_documents: int, asked: Sequence[Runs], held_R: npt.NDArray, num_patients: int | None = None) -> Found:
    """What of the runs that are `asked` for is among those held."""
    ways = []
    for run_R, document_R in asked:
        runs_D = np.bincount(document_R, minlength=num_documents)
        found_D = np.bincount(document_R[np.isin(run_R, held_R)], minlength=num_documents)
        ways.append(Found(runs_D, found_D, num_patients))
    return joined(ways)


def _both_ways(documents: Documents, tokenizer: Tokenizer, deid_policy: str) -> list[Runs]:
    """The runs of each document as one text, and those of its texts one by one."""
    whole = _runs(["\n".join(texts) for texts in documents], tokenizer, deid_policy)
    document_N = np.repeat(np.arange(len(documents)), [len(texts) for texts in documents])
    if len(document_N) == len(documents):
        return [whole]
    run_R, text_R = _runs([text for texts in documents for text in texts], tokenizer, deid_policy)
    return [whole, (run_R, document_N[text_R])]


def _runs(texts: Sequence[str], tokenizer: Tokenizer, deid_policy: str) -> Runs:
    """The runs of all texts, and for each the number of its text."""
    notes_of = [sentences.split(cleaning.clean(text, deid_policy)) for text in texts]
    notes: TokenizedNotes = tokenize(tokenizer, notes_of, np.arange(len(texts)), np.zeros(len(texts), np.int32))
    begins_T = ~tokenizer.is_continuation()[notes.ids_T]
    begins_T[notes.sentence_offsets[:-1]] = True
    run_R, note_R = splits.runs(
        shard_texts.hashes(notes.ids_T), begins_T, notes.sentence_offsets[notes.document_offsets[1:]]
    )
    return run_R, notes.patient_D[note_R]  # which holds the numbers of the texts: some have no note


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
