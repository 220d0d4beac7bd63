"""What two splits have in common: a sample of the runs of words of their notes, from the ids of a whole bucket at once.

Shape legend: T pieces, W words, D documents, R runs.
"""

import numpy as np
import numpy.typing as npt

from clinicalbert_jax import random_bits
from data_prep.tokenizer import TokenizedNotes

WORDS_IN_A_RUN = 13  # as of `leakage`, after Brown et al. (2020), appendix C
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, so that a run's hash depends on the order of its words


def sample(notes: TokenizedNotes, continues_T: npt.NDArray[np.bool_], one_in: int) -> npt.NDArray[np.uint64]:
    """Sorted distinct hashes of runs of 13 words within a note, of which one in `one_in` is kept, by its hash.

    `continues_T` tells the pieces that continue a word; a sentence always begins one.
    """
    begins_T = ~continues_T
    begins_T[notes.sentence_offsets[:-1]] = True
    start_W = np.flatnonzero(begins_T)
    if len(start_W) < WORDS_IN_A_RUN:
        return np.empty(0, np.uint64)
    place_T = np.arange(len(begins_T)) - np.repeat(start_W, np.diff(start_W, append=len(begins_T)))
    word_W = np.add.reduceat(random_bits.fold(notes.ids_T, place_T), start_W)
    note_end_D = np.searchsorted(start_W, notes.sentence_offsets[notes.document_offsets[1:]])
    note_W = np.searchsorted(note_end_D, np.arange(len(start_W)), side="right")
    num_runs = len(start_W) - WORDS_IN_A_RUN + 1
    run_R = np.zeros(num_runs, np.uint64)
    for place in range(WORDS_IN_A_RUN):
        run_R = run_R * _MULTIPLIER + word_W[place : place + num_runs]
    run_R = run_R[note_W[:num_runs] == note_W[WORDS_IN_A_RUN - 1 :]]
    run_R = random_bits.fold(run_R)
    return np.unique(run_R[run_R % np.uint64(one_in) == 0])
