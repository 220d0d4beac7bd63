"""What two splits have in common: a sample of the runs of words of their notes, from the ids of a whole bucket at once.

Shape legend: T pieces, W words, D documents, R runs.
"""

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng
from data_prep.wordpiece.tokenizer import TokenizedNotes

WORDS_IN_A_RUN = 13  # as of `leakage`, after Brown et al. (2020), appendix C
_BLOCK_PIECES = 1 << 18
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a run's hash depends on the order of its words


def sample(notes: TokenizedNotes, continues_T: npt.NDArray[np.bool_], one_in: int) -> npt.NDArray[np.uint64]:
    """Sorted distinct hashes of runs of 13 words within a note, of which one in `one_in` is kept, by its hash.

    `continues_T` tells the pieces that continue a word; a sentence always begins one.
    """
    begins_T = ~continues_T
    begins_T[notes.sentence_offsets[:-1]] = True
    offsets_D = notes.sentence_offsets[notes.document_offsets]
    hash_V = counter_rng.fold(np.arange(notes.ids_T.max(initial=0) + 1))
    kept = [np.empty(0, np.uint64)]
    first = 0
    while first < len(offsets_D) - 1:  # a block of notes at a time, so that the working arrays stay small
        after = max(first + 1, int(np.searchsorted(offsets_D, offsets_D[first] + _BLOCK_PIECES, side="right")) - 1)
        block = slice(offsets_D[first], offsets_D[after])
        end_D = offsets_D[first + 1 : after + 1] - offsets_D[first]
        run_R, _ = runs(hash_V[notes.ids_T[block]], begins_T[block], end_D)
        kept.append(run_R[run_R % np.uint64(one_in) == 0])
        first = after
    return np.unique(np.concatenate(kept))


def sampling_rate(num_bytes: int) -> int:
    """`one_in` for an input of so many bytes: about a million runs over all splits."""
    return max(1, num_bytes // (6 << 20))


def fraction(part_R: npt.NDArray[np.uint64], whole_R: npt.NDArray[np.uint64]) -> float:
    """The fraction of the runs of one sample that another one of the same rate holds too."""
    return float(np.isin(part_R, whole_R).mean()) if len(part_R) else 0.0


def runs(
    hash_T: npt.NDArray[np.uint64], begins_T: npt.NDArray[np.bool_], end_D: npt.NDArray[np.int64]
) -> tuple[npt.NDArray[np.uint64], npt.NDArray[np.int64]]:
    """The hash of each run of 13 words of some notes, which end at pieces `end_D`, and the number of its note.

    `hash_T` are hashes of the pieces' ids; `begins_T` tells those that begin a word, the first of each note among them.
    """
    start_W = np.flatnonzero(begins_T)
    num_runs = len(start_W) - WORDS_IN_A_RUN + 1
    if num_runs < 1:
        return np.empty(0, np.uint64), np.empty(0, np.int64)
    word_W = np.add.reduceat(hash_T, start_W)
    note_W = np.searchsorted(end_D, start_W, side="right")
    run_R = np.zeros(num_runs, np.uint64)
    for place in range(WORDS_IN_A_RUN):
        run_R = run_R * _MULTIPLIER + word_W[place : place + num_runs]
    inside_R = note_W[:num_runs] == note_W[WORDS_IN_A_RUN - 1 :]
    return counter_rng.fold(run_R[inside_R]), note_W[:num_runs][inside_R]
