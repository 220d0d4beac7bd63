"""Long documents: chunks lose nothing, and one decision is made of many."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from clinicalbert_jax.finetune.classification import chunks

pytestmark = pytest.mark.fast


@given(st.integers(0, 60), st.integers(6, 20), st.integers(0, 6))
def test_chunks_of_a_text_hold_all_of_it_in_order(length: int, room: int, stride: int) -> None:
    text = np.arange(length)
    cut = chunks.split(text, None, room, stride)
    assert all(len(parts) == 1 and len(parts[0]) <= room for parts in cut)
    np.testing.assert_array_equal(np.unique(np.concatenate([parts[0] for parts in cut])), text)
    starts = [int(parts[0][0]) for parts in cut if len(parts[0])]
    assert starts == [(stride or room) * number for number in range(len(starts))]


@given(st.integers(1, 60), st.integers(1, 60), st.integers(8, 20), st.integers(0, 25))
def test_chunks_of_a_pair_hold_the_longer_text_and_what_fits_of_the_shorter(
    first: int, second: int, room: int, stride: int
) -> None:
    texts = np.arange(first), np.arange(second)
    cut = chunks.split(*texts, room, stride)
    assert first + second > room or len(cut) == 1
    assert all(len(a) + len(b) <= room for a, b in cut)
    longer = 0 if first >= second else 1
    for place in (0, 1):
        seen = np.unique(np.concatenate([parts[place] for parts in cut]))
        whole = place == longer or first + second <= room or len(texts[place]) <= room // 2
        np.testing.assert_array_equal(seen, texts[place] if whole else texts[place][: room // 2])


@given(st.integers(1, 50), st.integers(1, 20))
def test_chunks_kept_are_spread_from_the_first_to_the_last(count: int, most: int) -> None:
    kept = chunks.spread(count, most)
    assert len(kept) == len(set(kept.tolist())) == min(count, most)
    assert kept[0] == 0
    assert most == 1 or kept[-1] == count - 1
    assert np.ptp(np.diff(kept)) <= 1 if len(kept) > 1 else True
    np.testing.assert_array_equal(chunks.spread(count, 0), np.arange(count))


def test_readmission_is_the_published_formula() -> None:
    outcome_N = np.array([0.2, 0.9, 0.4, 0.6])
    probabilities_NxC = np.stack([1 - outcome_N, outcome_N], axis=1)
    pooled = chunks.pool(probabilities_NxC, np.array([3, 1]), "readmission", independent=False)
    assert pooled[0, 1] == pytest.approx((0.9 + 0.5 * 3 / 2) / (1 + 3 / 2))
    assert pooled[1, 1] == pytest.approx(0.6)


@pytest.mark.parametrize("pooling", chunks.POOLINGS)
@pytest.mark.parametrize(("num_labels", "independent"), [(2, False), (5, False), (3, True)])
def test_a_single_chunk_decides_alone_and_equal_chunks_as_one(pooling: str, num_labels: int, independent: bool) -> None:
    generator = np.random.default_rng(0)
    probabilities_ExC = generator.random((6, num_labels))
    if not independent:
        probabilities_ExC /= probabilities_ExC.sum(1, keepdims=True)
    for counts_E in (np.ones(6, int), np.array([1, 3, 2, 1, 4, 1])):
        pooled = chunks.pool(np.repeat(probabilities_ExC, counts_E, axis=0), counts_E, pooling, independent)
        np.testing.assert_allclose(pooled, probabilities_ExC)


def test_pooled_labels_that_exclude_each_other_sum_to_one() -> None:
    probabilities_NxC = np.array([[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]])
    mean, most = (chunks.pool(probabilities_NxC, np.array([2]), name, False)[0] for name in ("mean", "max"))
    np.testing.assert_allclose(mean, [0.4, 0.25, 0.35])
    np.testing.assert_allclose(most, np.array([0.7, 0.3, 0.6]) / 1.6)
    # Of two, the second is the outcome, and pooled by itself.
    np.testing.assert_allclose(chunks.pool(probabilities_NxC[:, :2], np.array([2]), "max", False), [[0.7, 0.3]])
