"""Lengths that batches are padded to."""

import itertools

import numpy as np
import pytest

from clinicalbert_jax.finetune.rows import LENGTHS, RowBatches, Rows, chosen_lengths

pytestmark = pytest.mark.fast


def cost(lengths: tuple[int, ...], longest_N: np.ndarray, price: float, compiled: tuple[int, ...]) -> float:
    """What a choice costs: every batch its length, every new length its compilation."""
    padded = sum(min(length for length in lengths if length >= longest) for longest in longest_N)
    return padded + price * len(set(lengths) - set(compiled))


@pytest.mark.parametrize("price", [0.0, 30.0, 400.0, 1e9])
@pytest.mark.parametrize("compiled", [(), (64, 112)])
def test_no_other_choice_of_lengths_costs_less(price: float, compiled: tuple[int, ...]) -> None:
    longest_N = np.random.default_rng(0).integers(20, 113, 40)
    found = chosen_lengths(longest_N, price, compiled)
    largest = next(length for length in LENGTHS if length >= longest_N.max())
    smaller = [length for length in LENGTHS if length < largest]
    choices = [(*some, largest) for count in range(len(smaller) + 1) for some in itertools.combinations(smaller, count)]
    least = min(cost(choice, longest_N, price, compiled) for choice in choices)
    assert cost(found, longest_N, price, compiled) == pytest.approx(least)


def test_rows_longer_than_all_lengths_keep_their_own() -> None:
    assert chosen_lengths(np.array([700, 30]), 1e9) == (700,)


def test_a_row_that_the_foreseen_steps_do_not_meet_fits_a_chosen_length() -> None:
    ids = [np.ones(length, np.int32) for length in [10] * 99 + [100]]
    batches = RowBatches(Rows(ids, ids, np.arange(len(ids)))).for_steps(steps=2, batch_size=1, price=1.0)
    found = {batches.train_batch(0, step, 1, np.arange(1))["input_ids"].shape[1] for step in range(100)}
    assert found == {16, 112}


def test_training_batches_have_the_chosen_lengths_and_any_order_fits() -> None:
    lengths_N = np.append(np.random.default_rng(0).integers(5, 40, 60), 100)
    ids = [np.ones(length, np.int32) for length in lengths_N]
    batches = RowBatches(Rows(ids, ids, np.arange(len(ids)))).for_steps(steps=200, batch_size=2, price=500.0)
    found = {
        batches.train_batch(seed, step, 2, np.arange(2))["input_ids"].shape[1] for seed in (0, 7) for step in range(200)
    }
    assert found == set(batches._lengths)
    assert 1 < len(found) < 4 and max(found) == 112
