"""Shingles: the hashes of all runs of n words of a text, by which copied text is found.

Shape legend: W words, S shingles.
"""

import hashlib
import re
import unicodedata

import numpy as np

from clinicalbert_jax.data import counter_rng

_IDEOGRAPHS = "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"  # each a word, as for BERT
_WORD = re.compile(rf"[{_IDEOGRAPHS}]|[^\W{_IDEOGRAPHS}]+")
_MARKS = re.compile(
    "[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]+"
)  # combining diacritical marks
_MAX_CACHED_WORDS = 200_000
_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


class _WordHashes(dict[str, int]):
    """64-bit hashes of words, computed once each; emptied when full, so that memory stays bounded."""

    def __missing__(self, word: str) -> int:
        if len(self) >= _MAX_CACHED_WORDS:
            self.clear()
        digest = hashlib.blake2b(word.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        value = self[word] = int.from_bytes(digest, "little")
        return value


_word_hashes = _WordHashes()


def shingles(text: str, num_words: int) -> np.ndarray:
    """Sorted distinct uint64 hashes of all runs of `num_words` words, case, accents and punctuation aside.

    A text of fewer words has none.
    """
    return np.unique(runs(text, num_words))


def runs(text: str, num_words: int) -> np.ndarray:
    """The hashes of all runs of `num_words` words, as they come: uint64 [S]."""
    words = _WORD.findall(without_accents(text.lower()))
    count = len(words) - num_words + 1
    if count <= 0:
        return np.empty(0, np.uint64)
    hashes_W = np.fromiter(map(_word_hashes.__getitem__, words), np.uint64, len(words))
    runs_S = np.zeros(count, np.uint64)
    for place in range(num_words):
        runs_S = runs_S * _MULTIPLIER + hashes_W[place : place + count]
    return counter_rng.mix(runs_S)


def num_words(text: str) -> int:
    """How many words a text has."""
    return len(_WORD.findall(without_accents(text)))


def without_accents(text: str) -> str:
    """The text without combining diacritical marks, its letters decomposed."""
    if text.isascii():
        return text
    return _MARKS.sub("", unicodedata.normalize("NFD", text))
