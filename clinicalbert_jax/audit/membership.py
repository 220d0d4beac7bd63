"""How well a score tells members of the training data from non-members: AUC and true-positive rates, with intervals.

A score is higher for what the attack takes for a member. Units (patients, notes, pairs) of one patient are not
independent, so intervals are over patients, whether a unit is one or not.

Shape legend: M units of members, N units of non-members, R resamples.
"""

import math
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

LEVEL = 0.95
MIN_PATIENTS = 30  # on a side, for any interval
_RESAMPLES = 1000
_Z = stats.norm.ppf((1 + LEVEL) / 2)

Scores = npt.NDArray[np.float64]
Patients = npt.NDArray[np.integer]


class Estimate(NamedTuple):
    """A value with its 95 % interval over patients."""

    value: float
    low: float
    high: float


def auc(members_M: Scores, others_N: Scores, patients_M: Patients, patients_N: Patients) -> Estimate:
    """The probability that a member has a higher score than a non-member, ties counted half.

    Its variance is that of DeLong et al. (1988), for units in clusters as Obuchowski (1997) has it: of the placements
    of each patient's units together. The interval is symmetric in log-odds, so that it stays within 0 and 1.
    """
    above_M = _placements(members_M, others_N)
    above_N = 1 - _placements(others_N, members_M)
    value = float(above_M.mean())
    variance = _variance(above_M, value, patients_M) + _variance(above_N, value, patients_N)
    if not 0 < value < 1 or not variance > 0:  # told apart without an error: the interval is that of no error at all
        rarest = 3 / min(len(np.unique(patients_M)), len(np.unique(patients_N)))  # the rule of three
        return (
            Estimate(value, min(value, 1 - rarest), max(value, rarest))
            if value in (0.0, 1.0)
            else Estimate(value, value, value)
        )
    log_odds, error = math.log(value / (1 - value)), math.sqrt(variance) / (value * (1 - value))
    return Estimate(value, _logistic(log_odds - _Z * error), _logistic(log_odds + _Z * error))


def true_positive_rate(
    members_M: Scores, others_N: Scores, patients_M: Patients, patients_N: Patients, alpha: float, seed: int = 0
) -> Estimate | None:
    """The fraction of members found where a fraction `alpha` of non-members is taken for members.

    None with fewer than 10 / alpha non-members, where it cannot be measured. The interval is a bootstrap over patients.
    """
    if len(others_N) < 10 / alpha:
        return None
    generator = np.random.default_rng(seed)
    units = [_by_patient(patients) for patients in (patients_M, patients_N)]
    resampled_R = [
        _rate(members_M[_drawn(units[0], generator)], others_N[_drawn(units[1], generator)], alpha)
        for _ in range(_RESAMPLES)
    ]
    low, high = np.quantile(resampled_R, ((1 - LEVEL) / 2, (1 + LEVEL) / 2)).tolist()
    return Estimate(_rate(members_M, others_N, alpha), low, high)


def roc(members_M: Scores, others_N: Scores) -> tuple[npt.NDArray, npt.NDArray]:
    """False and true positive rates of every threshold, from the highest on; both begin with 0."""
    thresholds = np.unique(np.concatenate([members_M, others_N]))[::-1]
    rates = [
        1 - np.searchsorted(np.sort(scores), thresholds, side="left") / len(scores) for scores in (others_N, members_M)
    ]
    return np.concatenate([[0.0], rates[0]]), np.concatenate([[0.0], rates[1]])


def smallest_visible_auc(num_members: int, num_others: int) -> float:
    """The AUC whose interval would have excluded 0.5 four times out of five, with so many patients on each side.

    From the variance under the hypothesis of no difference, that of the Mann-Whitney statistic.
    """
    error = math.sqrt((num_members + num_others + 1) / (12 * num_members * num_others))
    return min(1.0, 0.5 + (_Z + stats.norm.ppf(0.8)) * error)


def _placements(scores: Scores, others: Scores) -> Scores:
    """For each score the fraction of the others that are lower, ties counted half."""
    ordered = np.sort(others)
    lower = np.searchsorted(ordered, scores, side="left") + np.searchsorted(ordered, scores, side="right")
    return lower / (2 * len(others))


def _variance(above: Scores, value: float, patients: Patients) -> float:
    _, patient_of = np.unique(patients, return_inverse=True)
    sums = np.bincount(patient_of, above - value)
    return float(len(sums) / max(len(sums) - 1, 1) * (sums**2).sum() / len(above) ** 2)


def _rate(members_M: Scores, others_N: Scores, alpha: float) -> float:
    """With the lowest threshold above which at most `alpha` of the non-members lie."""
    allowed = math.floor(alpha * len(others_N) + 1e-9)
    threshold = np.partition(others_N, len(others_N) - allowed - 1)[len(others_N) - allowed - 1]
    return float((members_M > threshold).mean())


def _by_patient(patients: Patients) -> list[npt.NDArray[np.int64]]:
    order = np.argsort(patients, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(patients[order])) + 1)


def _drawn(units: list[npt.NDArray[np.int64]], generator: np.random.Generator) -> npt.NDArray[np.int64]:
    return np.concatenate([units[number] for number in generator.integers(0, len(units), len(units))])


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-x))
