"""A lower bound on epsilon from one training run with canaries (Steinke, Nasr and Jagielski 2023, arXiv:2305.08846).

Each canary was planted or left out by a fair coin. The auditor guesses the coins of some of them. Under differential
privacy with (epsilon, delta) few guesses can be right; how many are right therefore refutes small epsilons.

Shape legend: C canaries.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

CONFIDENCE = 0.95
GUESSED = 0.1  # of the canaries; fixed before any score is seen (measured in docs/privacy.md)
_LARGEST = 40.0


class Bound(NamedTuple):
    """Epsilon is at least `epsilon` (at `delta`), with 95 % confidence; from `right` of `guesses` guesses."""

    epsilon: float
    delta: float
    guesses: int
    right: int


def lower_bound(scores_C: npt.NDArray[np.float64], planted_C: npt.NDArray[np.bool_], delta: float) -> Bound:
    """The bound from the scores of all canaries, higher for what seems planted.

    A tenth of the canaries are guessed: the half with the highest scores to be planted, the half with the lowest not.
    """
    half = max(1, round(GUESSED * len(scores_C) / 2))
    order_C = np.argsort(scores_C, kind="stable")
    right = int(planted_C[order_C[-half:]].sum() + (~planted_C[order_C[:half]]).sum())
    return Bound(smallest_epsilon(len(scores_C), 2 * half, right, delta), delta, 2 * half, right)


def smallest_epsilon(num_canaries: int, guesses: int, right: int, delta: float) -> float:
    """The largest epsilon that so many right guesses refute at the level of `CONFIDENCE`; 0 where none is."""
    if p_value(num_canaries, guesses, right, 0.0, delta) >= 1 - CONFIDENCE:
        return 0.0
    low, high = 0.0, _LARGEST
    for _ in range(60):
        middle = (low + high) / 2
        if p_value(num_canaries, guesses, right, middle, delta) < 1 - CONFIDENCE:
            low = middle
        else:
            high = middle
    return low


def p_value(num_canaries: int, guesses: int, right: int, epsilon: float, delta: float) -> float:
    """At most how probable so many right guesses are under (epsilon, delta) differential privacy (Theorem 3 there)."""
    chance = 1 / (1 + math.exp(-epsilon))
    at_least = float(stats.binom.sf(right - 1, guesses, chance))
    # P[right > Binomial >= right - i] / i, the most over i: what delta can add for each canary that fails.
    step_V = np.arange(1, right + 1)
    near_V = np.cumsum(stats.binom.pmf(right - step_V, guesses, chance)) / step_V
    return min(1.0, at_least + 2 * num_canaries * delta * float(near_V.max(initial=0.0)))
