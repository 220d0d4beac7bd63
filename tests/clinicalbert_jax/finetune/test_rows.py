"""How rows share packed rows, and how many of these a batch has."""

import itertools

import numpy as np
import pytest

from clinicalbert_jax.finetune.rows import (
    RowBatches,
    Rows,
    batch_of,
    chosen_sizes,
    most_in_one,
    pack,
    packed_length,
)

pytestmark = pytest.mark.fast


def some_rows(count: int, longest: int = 60) -> Rows:
    """Rows whose tokens, labels and targets tell them apart."""
    lengths = np.random.default_rng(0).integers(3, longest + 1, count)
    ids = [np.arange(length, dtype=np.int32) + 100 * number for number, length in enumerate(lengths)]
    return Rows(
        ids,
        [one % 2 for one in ids],
        np.arange(count),
        token_targets={"labels": [one + 7 for one in ids]},
        row_targets={"classes": np.arange(count * 2, dtype=np.float32).reshape(count, 2)},
    )


@pytest.mark.parametrize("length", [16, 48, 128, 512])
def test_every_row_is_packed_once_and_fits(length: int) -> None:
    for seed in range(20):
        lengths_B = np.random.default_rng(seed).integers(1, length + 1, 50)
        packed = pack(lengths_B, length)
        assert sorted(itertools.chain(*packed)) == list(range(50))
        assert all(lengths_B[numbers].sum() <= length for numbers in packed)
        assert max(map(len, packed)) <= most_in_one(length)


def test_rows_go_where_they_fit_best() -> None:
    assert pack(np.array([28, 60, 100, 68, 5]), 128) == [[2, 0], [3, 1], [4]]
    assert pack(np.array([70, 20, 90, 38]), 128) == [[2, 3], [0, 1]]
    assert [len(numbers) for numbers in pack(np.full(20, 3), 128)] == [8, 8, 4], "no more rows than there are places"


def test_little_is_padded() -> None:
    lengths_N = np.random.default_rng(1).integers(3, 129, 5_000)
    assert len(pack(lengths_N, 128)) * 128 < 1.02 * lengths_N.sum()


def test_packed_arrays_hold_each_row_whole() -> None:
    rows = some_rows(30)
    packed = [*pack(rows.lengths_N, 64), []]
    batch = batch_of(rows, packed, 64, most_in_one(64))
    assert not batch["sequence_ids"][-1].any()
    for row, numbers in enumerate(packed):
        for place, number in enumerate(numbers):
            own_L = batch["sequence_ids"][row] == place + 1
            assert np.flatnonzero(own_L)[0] == batch["first_positions"][row, place]
            np.testing.assert_array_equal(batch["input_ids"][row, own_L], rows.input_ids[number])
            np.testing.assert_array_equal(batch["segment_ids"][row, own_L], rows.segment_ids[number])
            np.testing.assert_array_equal(batch["labels"][row, own_L], rows.token_targets["labels"][number])
            np.testing.assert_array_equal(batch["classes"][row, place], rows.row_targets["classes"][number])
        assert (batch["sequence_ids"][row] > 0).sum() == rows.lengths_N[numbers].sum()
        assert not batch["classes"][row, len(numbers) :].any(), "a place without a row has no weight"


def test_the_processes_of_a_run_share_a_batch_between_them() -> None:
    batches = RowBatches(some_rows(40), 64, multiple=4)
    for step in range(6):
        [whole] = batches.train_batches(3, [step], 16, np.arange(16))
        parts = [batches.train_batches(3, [step], 16, np.arange(first, first + 4))[0] for first in range(0, 16, 4)]
        assert len({len(part["input_ids"]) for part in parts}) == 1
        for name, array in whole.items():
            np.testing.assert_array_equal(np.concatenate([part[name] for part in parts]), array)
        held = {int(first) // 100 for first in whole["input_ids"][whole["input_ids"] % 100 == 0] if first} | {0}
        assert held == set(batches.order(3, step, 16).tolist()) | {0}


def test_packed_rows_are_no_shorter_than_pays_and_no_longer_than_positions() -> None:
    assert packed_length(20, 512) == 128
    assert packed_length(129, 512) == 160
    assert packed_length(20, 64) == 64, "padding after a row has positions as well"
    assert packed_length(195, 200) == 195
    assert packed_length(190, 200) == 192
    assert packed_length(20, 20) == 20
    assert packed_length(700, 1024) == 700


@pytest.mark.parametrize("multiple", [1, 4])
@pytest.mark.parametrize("price", [0.0, 3.0, 40.0, 1e9])
def test_no_other_choice_of_sizes_costs_less(price: float, multiple: int) -> None:
    needed_S = np.random.default_rng(0).integers(3, 14, 40)
    largest = -(-needed_S.max() // multiple) * multiple
    smaller = list(range(multiple, largest, multiple))

    def cost(sizes: tuple[int, ...]) -> float:
        return sum(min(size for size in sizes if size >= needed) for needed in needed_S) + price * len(sizes)

    choices = [(*some, largest) for count in range(len(smaller) + 1) for some in itertools.combinations(smaller, count)]
    assert cost(chosen_sizes(needed_S, multiple, price)) == pytest.approx(min(map(cost, choices)))


def test_batches_have_the_chosen_sizes_and_any_order_fits() -> None:
    rows = some_rows(60)
    batches = RowBatches(rows, 64, multiple=2).for_steps(steps=3, batch_size=8, price=0.1)
    foreseen = {len(batches.train_batches(0, [step], 8, np.arange(8))[0]["input_ids"]) for step in range(3)}
    assert foreseen == set(batches._sizes)
    for seed, step in itertools.product(range(5), range(20)):
        [batch] = batches.train_batches(seed, [step], 8, np.arange(8))
        assert len(batch["input_ids"]) % 2 == 0
        assert (batch["sequence_ids"] > 0).sum() == rows.lengths_N[batches.order(seed, step, 8)].sum()
