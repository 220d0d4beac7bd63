"""Masks: their share, their fates, their evenness over positions and words, and what they never touch."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.data import counter_rng, masking

SPECIALS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
VOCABULARY = [*SPECIALS, *(f"w{i}" for i in range(95)), *(f"##c{i}" for i in range(100))]
PAD, UNK, CLS, SEP, MASK = range(5)
FIRST_CONTINUATION = 100


def rows_of_pieces(rows: int, length: int, seed: int) -> np.ndarray:
    """Full rows of one-piece words: [CLS] A [SEP] B [SEP]."""
    rng = np.random.default_rng(seed)
    ids = rng.integers(5, FIRST_CONTINUATION, (rows, length)).astype(np.int32)
    ids[:, 0] = CLS
    ids[:, length // 2] = ids[:, -1] = SEP
    return ids


def rows_of_words(rows: int, length: int, seed: int, sizes: list[int]) -> np.ndarray:
    """Rows of words of the given numbers of pieces, drawn evenly, filled as far as whole words go."""
    rng = np.random.default_rng(seed)
    ids = np.full((rows, length), PAD, np.int32)
    for row in ids:
        at = 1
        for size in rng.choice(sizes, length):
            if at + size > length - 1:
                break
            row[at] = rng.integers(5, FIRST_CONTINUATION)
            row[at + 1 : at + size] = rng.integers(FIRST_CONTINUATION, len(VOCABULARY), size - 1)
            at += size
        row[0], row[at] = CLS, SEP
    return ids


def keys(rows: int, seed: int = 0) -> counter_rng.Keys:
    return counter_rng.fold(seed, np.arange(rows))


def chosen(masked: masking.Masked) -> np.ndarray:
    """NxL: which positions are predicted."""
    selected = np.zeros(masked.input_ids.shape, bool)
    row, column = np.nonzero(masked.masked_lm_weights)
    selected[row, masked.masked_lm_positions[row, column]] = True
    return selected


def chi_square_is_plausible(observed: np.ndarray, expected: np.ndarray | float) -> bool:
    """Whether a chi-square statistic lies within five standard deviations of its mean."""
    statistic = ((observed - expected) ** 2 / expected).sum()
    freedom = observed.size - 1
    return bool(abs(statistic - freedom) < 5 * np.sqrt(2 * freedom))


@pytest.mark.fast
def test_fates_words_and_positions_over_a_million_predictions() -> None:
    length, rows = 130, 55_000
    policy = masking.policy(VOCABULARY, 20)
    positions, fates, words, total = np.zeros(length), np.zeros(3), np.zeros(len(VOCABULARY)), 0
    for part in range(10):
        ids = rows_of_pieces(rows // 10, length, seed=part)
        masked = masking.mask(keys(rows // 10, seed=part), ids, policy)
        row, column = np.nonzero(masked.masked_lm_weights)
        place = masked.masked_lm_positions[row, column]
        before, after = ids[row, place], masked.input_ids[row, place]
        np.testing.assert_array_equal(masked.masked_lm_ids[row, column], before)
        positions += np.bincount(place, minlength=length)
        total += len(place)
        is_mask, is_same = after == MASK, after == before
        fates += [is_mask.sum(), (~is_mask & ~is_same).sum(), is_same.sum()]
        words += np.bincount(after[~is_mask & ~is_same], minlength=len(VOCABULARY))
    assert total >= 1_000_000
    assert not positions[[0, length // 2, length - 1]].any()
    inner = np.delete(positions, [0, length // 2, length - 1])
    assert chi_square_is_plausible(inner, total / inner.size)
    # A random word is now and then the word that stood there, and then counts as one that stayed.
    replacements = len(VOCABULARY) - 5
    same_again = 0.1 / replacements
    assert chi_square_is_plausible(fates, total * np.array([0.8, 0.1 - same_again, 0.1 + same_again]))
    assert not words[:5].any()
    for group in (words[5:FIRST_CONTINUATION], words[FIRST_CONTINUATION:]):
        assert chi_square_is_plausible(group, group.mean())
    assert words[FIRST_CONTINUATION:].mean() == pytest.approx(0.1 * total / replacements, rel=0.02)


@pytest.mark.fast
@settings(max_examples=150)
@given(st.integers(0, 60), st.integers(1, 70), st.booleans(), st.integers(0, 2**40))
def test_number_order_and_conservation(pieces: int, most: int, whole_word: bool, seed: int) -> None:
    rng = np.random.default_rng(seed)
    ids = np.full((3, 64), PAD, np.int32)
    ids[:, 0], ids[:, pieces + 1] = CLS, SEP
    ids[:, 1 : pieces + 1] = rng.integers(5, len(VOCABULARY), (3, pieces))
    before = ids.copy()
    masked = masking.mask(keys(3, seed), ids, masking.policy(VOCABULARY, most, whole_word=whole_word))
    np.testing.assert_array_equal(ids, before)
    used = masked.masked_lm_weights == 1
    assert masked.masked_lm_weights.shape == (3, most)
    assert ((masked.masked_lm_weights == 0) | used).all()
    expected = min(most, max(1, round(0.15 * pieces)), pieces)
    if not whole_word:
        assert (used.sum(axis=1) == expected).all()
    for row in range(3):
        count = used[row].sum()
        assert used[row, :count].all()  # unused ones stand last
        assert (np.diff(masked.masked_lm_positions[row, :count]) > 0).all()
        assert not masked.masked_lm_positions[row, count:].any()
        assert not masked.masked_lm_ids[row, count:].any()
    # Putting the targets back gives the row again.
    restored = masked.input_ids.copy()
    row, column = np.nonzero(used)
    restored[row, masked.masked_lm_positions[row, column]] = masked.masked_lm_ids[row, column]
    np.testing.assert_array_equal(restored, before)


@pytest.mark.parametrize(
    "sizes", [[1] * 12 + [2, 2, 3, 3, 4, 5, 6, 7, 8], list(range(1, 9))], ids=["mostly short", "evenly long"]
)
def test_whole_words_are_masked_whole_and_evenly(sizes: list[int]) -> None:
    hits, words = np.zeros(9), np.zeros(9)
    predictions = pieces = 0
    for part in range(3):
        ids = rows_of_words(4_000, 128, part, sizes)
        selected = chosen(masking.mask(keys(4_000, part), ids, masking.policy(VOCABULARY, 20, whole_word=True)))
        inside = ids >= 5
        word = np.cumsum((inside & (ids < FIRST_CONTINUATION)).ravel()).reshape(ids.shape)[inside]
        size, hit = np.bincount(word), np.bincount(word, weights=selected[inside])
        assert ((hit == 0) | (hit == size)).all()
        words += np.bincount(size, minlength=9)[:9]
        hits += np.bincount(size[hit > 0], minlength=9)[:9]
        predictions, pieces = predictions + selected.sum(), pieces + inside.sum()
    share = hits[1:] / words[1:]
    assert (np.abs(share - 0.15) < 0.01).all(), share
    assert predictions / pieces == pytest.approx(0.15, abs=0.003)


def test_a_rows_masks_do_not_depend_on_its_batch() -> None:
    for whole_word in (False, True):
        ids = rows_of_words(50, 64, 0, [1, 1, 2, 3])
        policy = masking.policy(VOCABULARY, 10, whole_word=whole_word)
        together = masking.mask(keys(50), ids, policy)
        order = np.random.default_rng(0).permutation(50)[:7]
        apart = masking.mask(keys(50)[order], ids[order], policy)
        for one, other in zip(apart, together, strict=True):
            np.testing.assert_array_equal(one, other[order])
        other_keys = masking.mask(keys(50, seed=1), ids, policy)
        assert (other_keys.masked_lm_positions != together.masked_lm_positions).any()


def test_the_published_count_and_words() -> None:
    """google-research/bert counts [CLS] and [SEP] in the length, and draws from the whole vocabulary."""
    ids = rows_of_pieces(20_000, 63, 0)
    masked = masking.mask(keys(20_000), ids, masking.policy(VOCABULARY, 20, google=True))
    assert (masked.masked_lm_weights.sum(axis=1) == round(0.15 * 63)).all()
    selected = chosen(masked)
    assert not selected[(ids == CLS) | (ids == SEP)].any()
    assert (np.bincount(masked.input_ids[selected], minlength=len(VOCABULARY)) > 0)[[PAD, UNK, CLS, SEP]].all()


def test_keys_are_known_and_uniform() -> None:
    assert counter_rng.fold(1, 2) != counter_rng.fold(2, 1)
    np.testing.assert_array_equal(counter_rng.fold(3, np.array([4, 5]))[1], counter_rng.fold(3, 5))
    # The first outputs of SplitMix64 from state 0, as in Vigna's reference implementation.
    assert [hex(value) for value in counter_rng.bits(np.uint64(0), 2)] == ["0xe220a8397b1dcdaf", "0x6e789e6aa1b965f4"]
    drawn = counter_rng.uniform(keys(1000), 1000)
    assert chi_square_is_plausible(np.histogram(drawn, 1000, (0, 1))[0], 1000)
