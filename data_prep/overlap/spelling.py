"""Words of tokenized text compared by how they are spelled: capital letters and accents aside, whatever the tokenizer.

Shape legend: T pieces, W words, D texts, V vocabulary entries, C characters.
"""

import numpy as np
import numpy.typing as npt

from clinicalbert_jax.data import counter_rng
from data_prep.overlap.shingles import without_accents
from data_prep.wordpiece.tokenizer import Tokenizer

_MULTIPLIER = np.uint64(0xD1342543DE82EF95)  # odd, so that a word's hash depends on the order of its characters


Pieces = tuple[npt.NDArray[np.integer], npt.NDArray[np.bool_], npt.NDArray[np.int64]]


class Spelling:
    """The hashes of a tokenizer's pieces, which `splits.runs` adds up to those of words."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        plain = [without_accents(entry.removeprefix("##").lower()) for entry in tokenizer.vocabulary]
        self._is_letter_V = np.array([any(map(str.isalnum, one)) for one in plain], bool)
        self._unknown = tokenizer.id_of["[UNK]"]
        self._is_letter_V[self._unknown] = False  # of which nobody knows whether two are the same
        self._length_V = np.array([len(one) for one in plain], np.int64)
        code_C = np.frombuffer("".join(plain).encode("utf-32-le", "surrogatepass"), np.uint32)
        first_V = np.cumsum(self._length_V) - self._length_V
        place_C = np.arange(len(code_C)) - np.repeat(first_V, self._length_V)
        sum_C = np.cumsum(np.append(np.uint64(0), counter_rng.fold(code_C) * _powers(place_C)), dtype=np.uint64)
        self._hash_V = sum_C[first_V + self._length_V] - sum_C[first_V]

    def hashes(self, ids_T: npt.NDArray[np.integer], begins_T: npt.NDArray[np.bool_]) -> npt.NDArray[np.uint64]:
        """A hash of each piece in its place in its word; `begins_T`: those that begin one, the first among them."""
        length_T = self._length_V[ids_T]
        start_T = np.cumsum(length_T) - length_T
        place_T = start_T - start_T[begins_T][np.cumsum(begins_T) - 1]
        return self._hash_V[ids_T] * _powers(place_T)

    def is_unknown(self, ids_T: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
        """Which pieces are words that the tokenizer does not know."""
        return ids_T == self._unknown

    def known_words(
        self, ids_T: npt.NDArray[np.integer], begins_T: npt.NDArray[np.bool_], end_D: npt.NDArray[np.int64]
    ) -> Pieces:
        """The pieces of known words with a letter or digit, which of them begin a word, and where each text ends."""
        if not len(ids_T):
            return ids_T, begins_T, end_D
        has_letter_W = np.logical_or.reduceat(self._is_letter_V[ids_T], np.flatnonzero(begins_T))
        kept_T = has_letter_W[np.cumsum(begins_T) - 1]
        num_kept_T = np.cumsum(np.append(0, kept_T))
        return ids_T[kept_T], begins_T[kept_T], num_kept_T[end_D]


def _powers(exponents: npt.NDArray[np.int64]) -> npt.NDArray[np.uint64]:
    """The multiplier to each power, modulo 2^64."""
    table = np.full(int(exponents.max(initial=0)) + 1, _MULTIPLIER)
    table[0] = 1
    return np.multiply.accumulate(table)[exponents]
