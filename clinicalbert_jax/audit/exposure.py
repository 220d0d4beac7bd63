"""Exposure of planted secrets (Carlini et al. 2019, "The Secret Sharer").

The exposure of a secret is log2 of the number of all secrets of its form less log2 of its rank among them by the model:
0 bits for the least likely, 1 on average for one that was never seen, and at most log2 of their number.

Shape legend: C canaries, A alternatives.
"""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt


class Exposures(NamedTuple):
    """`bits_C` of each canary. `ceiling`: the most that could have been found with so many alternatives."""

    bits_C: npt.NDArray[np.float64]
    ceiling: float


def exposures(scores_C: npt.NDArray[np.float64], alternatives_CxA: npt.NDArray[np.float64]) -> Exposures:
    """From the score of each canary and of alternatives to it; higher: more likely to the model.

    The alternatives are all others of the form, or a uniform sample of them, with which the rank is estimated. Ties
    count half.
    """
    num_alternatives = alternatives_CxA.shape[1]
    higher_C = (alternatives_CxA > scores_C[:, None]).sum(1) + 0.5 * (alternatives_CxA == scores_C[:, None]).sum(1)
    ceiling = np.log2(num_alternatives + 1)
    return Exposures(ceiling - np.log2(higher_C + 1), float(ceiling))


def smallest_visible(num_planted: int, num_left_out: int) -> float:
    """The shift of exposure, in bits, that a rank test would have seen four times out of five.

    Exposures of secrets that were never seen are distributed exponentially, with a deviation of 1 / ln 2 bits.
    """
    deviation = 1 / np.log(2)
    return float((1.96 + 0.84) * deviation * np.sqrt(1 / num_planted + 1 / num_left_out))
