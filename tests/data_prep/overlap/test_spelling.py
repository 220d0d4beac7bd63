"""Words have one hash however a tokenizer splits and capitalises them, and other words have others."""

import unicodedata
from collections.abc import Sequence

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.tokenizer_files.settings import SPECIAL_TOKENS, Settings
from data_prep.overlap.spelling import Spelling
from data_prep.wordpiece.tokenizer import Tokenizer

pytestmark = pytest.mark.fast

LETTERS = "abcdeABCDEéÉñÑüÜ"
WORDS = st.lists(st.text(LETTERS, min_size=1, max_size=12), min_size=1, max_size=6)


def hashes(words: Sequence[str], pieces: Sequence[str], do_lower_case: bool) -> list[int]:
    """The hash of each word, split by a vocabulary of letters and some longer pieces."""
    letters = unicodedata.normalize("NFKD", LETTERS.lower()) if do_lower_case else LETTERS
    own = [piece for piece in pieces if set(piece) <= set(letters)]
    entries = dict.fromkeys([*SPECIAL_TOKENS, *letters, *own, *(f"##{one}" for one in [*letters, *own])])
    tokenizer = Tokenizer(Settings(tuple(entries), do_lower_case))
    ids_T, _ = tokenizer.ids([" ".join(words)])
    begins_T = ~tokenizer.is_continuation()[ids_T]
    hash_T = Spelling(tokenizer).hashes(ids_T, begins_T)
    return np.add.reduceat(hash_T, np.flatnonzero(begins_T)).tolist()


@given(WORDS, st.lists(st.text(LETTERS, min_size=2, max_size=4), max_size=8))
def test_words_have_one_hash_however_they_are_split(words: list[str], pieces: list[str]) -> None:
    whole = hashes(words, pieces, do_lower_case=False)
    assert hashes(words, [], do_lower_case=False) == whole
    assert hashes(words, pieces, do_lower_case=True) == whole
    assert hashes([word.swapcase() for word in words], pieces, do_lower_case=False) == whole
    plain = ["".join(c for c in unicodedata.normalize("NFD", word.lower()) if c.isalpha()) for word in words]
    assert len(set(whole)) == len(set(plain))


def test_the_order_of_letters_makes_another_word() -> None:
    for pieces in ([], ["bc", "ab"]):
        assert len(set(hashes(["abc", "acb", "bca", "ab", "abcabc"], pieces, do_lower_case=True))) == 5


def test_punctuation_and_unknown_words_are_left_out_and_texts_end_where_they_did() -> None:
    entries = [*SPECIAL_TOKENS, *"abc.,-\u00b0", *(f"##{one}" for one in "abc.\u00b0")]
    tokenizer = Tokenizer(Settings(tuple(entries), True))
    ids_T, pieces_D = tokenizer.ids(["ab, c.", "- .", "a\u00b0 \u00b0b \u00b0\u00b0", "z c z"])
    begins_T = ~tokenizer.is_continuation()[ids_T]
    left_T, begins_T, end_D = Spelling(tokenizer).known_words(ids_T, begins_T, np.cumsum(pieces_D))
    assert [entries[number] for number in left_T] == ["a", "##b", "c", "a", "##\u00b0", "\u00b0", "##b", "c"]
    assert begins_T.tolist() == [True, False, True, True, False, True, False, True]
    assert end_D.tolist() == [3, 3, 7, 8]
    nothing = (np.empty(0, np.int32), np.empty(0, bool), np.zeros(2, np.int64))
    assert [one.tolist() for one in Spelling(tokenizer).known_words(*nothing)] == [[], [], [0, 0]]
