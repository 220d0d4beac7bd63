"""Rows: every pair in exactly one, whole, within the three capacities."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clinicalbert_jax.data.schema import Layout
from data_prep.examples import packing
from data_prep.examples.packing import Specials
from data_prep.examples.pairs import Pairs

SPECIALS = Specials(pad=0, cls=1, sep=2)


def random_pairs(rng: np.random.Generator, count: int, longest: int) -> tuple[Pairs, np.ndarray]:
    """Pairs over a bucket of pieces numbered from 10."""
    ids = np.arange(10, 1010, dtype=np.int32)
    a_size = rng.integers(1, longest - 3, count)
    b_size = rng.integers(1, np.maximum(longest - 3 - a_size, 1) + 1)
    a_start, b_start = rng.integers(0, 900, count), rng.integers(0, 900, count)
    zeros = np.zeros(count, np.int64)
    label = rng.integers(0, 2, count)
    return Pairs(a_start, a_start + a_size, b_start, b_start + b_size, label, zeros, zeros), ids


@pytest.mark.fast
@settings(max_examples=200)
@given(st.integers(0, 10**6), st.integers(0, 80), st.integers(8, 64), st.integers(1, 6), st.integers(3, 12))
def test_capacities_hold_and_every_pair_is_placed(seed: int, count: int, length: int, most: int, room: int) -> None:
    rng = np.random.default_rng(seed)
    sizes = rng.integers(5, length + 1, count)
    wants = np.clip(np.rint(sizes * 0.15), 1, room).astype(np.int64)
    layout = Layout("packed", length, room, most)
    placement = packing.best_fit(sizes, wants, layout)
    assert sorted(placement.pair_N.tolist()) == list(range(count))
    assert placement.offsets_R[-1] == count
    for row in range(placement.num_rows):
        held = placement.pair_N[placement.offsets_R[row] : placement.offsets_R[row + 1]]
        assert 1 <= len(held) <= most
        assert wants[held].sum() <= room
        # From the first column on, without a gap or an overlap.
        np.testing.assert_array_equal(
            placement.column_N[held], np.append(0, np.cumsum(sizes[held])[:-1]).astype(np.int64)
        )
        assert sizes[held].sum() <= length


def test_best_fit_leaves_little() -> None:
    sizes = np.random.default_rng(0).integers(20, 512, 5000)
    layout = Layout("packed", 512, 80, 8)
    placement = packing.best_fit(sizes, np.rint(sizes * 0.15).astype(np.int64), layout)
    assert sizes.sum() / (placement.num_rows * 512) > 0.97


@settings(max_examples=100)
@given(st.integers(0, 10**6), st.integers(1, 30), st.booleans())
def test_rows_hold_their_pairs(seed: int, count: int, packed: bool) -> None:
    rng = np.random.default_rng(seed)
    made, ids = random_pairs(rng, count, longest=24)
    layout = Layout("packed", 40, 8, 4) if packed else Layout("padded", 24, 4)
    sizes = made.sizes()
    placement = packing.best_fit(sizes, np.ones_like(sizes), layout) if packed else packing.one_a_row(count)
    wanted = rng.permutation(placement.num_rows)
    arrays, pair_RxK = packing.rows(made, placement, wanted, ids, layout, SPECIALS)
    seen = []
    for place, row in enumerate(wanted):
        tokens = arrays["input_ids"][place].tolist()
        segments, sequences = arrays["segment_ids"][place].tolist(), arrays["sequence_ids"][place].tolist()
        at = 0
        held = placement.pair_N[placement.offsets_R[row] : placement.offsets_R[row + 1]].tolist()
        assert [pair for pair in pair_RxK[place].tolist() if pair >= 0] == held
        for slot, pair in enumerate(held):
            a = ids[made.a_start[pair] : made.a_end[pair]].tolist()
            b = ids[made.b_start[pair] : made.b_end[pair]].tolist()
            end = at + len(a) + len(b) + 3
            assert tokens[at:end] == [1, *a, 2, *b, 2]
            assert segments[at:end] == [0] * (len(a) + 2) + [1] * (len(b) + 1)
            assert sequences[at:end] == [slot + 1] * (end - at)
            assert arrays["next_sentence_positions"][place, slot] == at
            assert arrays["next_sentence_labels"][place, slot] == made.label[pair]
            at = end
        for rest in (tokens, segments, sequences):
            assert not any(rest[at:])
        for name in ("next_sentence_positions", "next_sentence_labels", "next_sentence_weights"):
            assert not arrays[name][place, len(held) :].any()
        assert arrays["next_sentence_weights"][place, : len(held)].all()
        seen += held
    assert sorted(seen) == list(range(count))
