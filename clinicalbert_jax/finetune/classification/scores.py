"""How good classifications are, in NumPy: rankings, decisions, calibration.

Shape legend: N decisions (each true or not), T thresholds, E examples, C labels, K bins.
"""

import math
from typing import NamedTuple

import numpy as np

from clinicalbert_jax.finetune.task import rates


class Points(NamedTuple):
    """What a classifier finds at every threshold that changes anything, from the strictest to the laxest."""

    taken_T: np.ndarray  # how many are called true
    true_T: np.ndarray  # how many of them are
    positives: int
    negatives: int

    @property
    def precision_T(self) -> np.ndarray:
        """Of those called true, how many are."""
        return self.true_T / self.taken_T

    @property
    def recall_T(self) -> np.ndarray:
        """Of the true ones, how many are called so."""
        return self.true_T / self.positives

    @property
    def false_positive_rate_T(self) -> np.ndarray:
        """Of the false ones, how many are called true."""
        return (self.taken_T - self.true_T) / self.negatives


class Calibration(NamedTuple):
    """Predicted probabilities by bin, without the empty ones, and their distance from what came true."""

    predicted_K: np.ndarray  # mean
    observed_K: np.ndarray  # fraction that was true
    counts_K: np.ndarray
    error: float


class MetRates(NamedTuple):
    """Of a label, or on average: each 0 where it would divide by 0."""

    met_precision: float
    met_recall: float
    met_f1: float
    not_met_precision: float
    not_met_recall: float
    not_met_f1: float
    f1: float  # mean of both
    auc: float  # mean of both recalls: the area under a curve of one threshold


class MetOrNot(NamedTuple):
    """Rates of each label, of all decisions together, and the mean over labels."""

    of_labels: list[MetRates]
    micro: MetRates
    macro: MetRates


def points(truth_N: np.ndarray, scores_N: np.ndarray) -> Points:
    """The thresholds of a score; equal scores are taken together."""
    order_N = np.argsort(-scores_N, kind="stable")
    last_T = np.append(np.flatnonzero(np.diff(scores_N[order_N])), len(order_N) - 1)
    positives = int(truth_N.sum())
    return Points(last_T + 1, np.cumsum(truth_N[order_N])[last_T], positives, len(truth_N) - positives)


def auroc(truth_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Area under the ROC curve: how often a true one scores above a false one, a tie counting half.

    NaN where there are not both. By ranks: Mann and Whitney (1947).
    """
    positives = int(truth_N.sum())
    negatives = len(truth_N) - positives
    if not positives or not negatives:
        return math.nan
    rank_sum = mean_ranks(scores_N)[truth_N].sum()
    return float((rank_sum - positives * (positives + 1) / 2) / (positives * negatives))


def mean_ranks(values_N: np.ndarray) -> np.ndarray:
    """The rank of each value from 1, equal values sharing the mean of theirs."""
    _, numbers_N, counts_T = np.unique(values_N, return_inverse=True, return_counts=True)
    return (np.cumsum(counts_T) - (counts_T - 1) / 2)[numbers_N]


def average_precision(truth_N: np.ndarray, scores_N: np.ndarray) -> float:
    """Area under the precision-recall curve as a sum of steps: sum of (R_t - R_(t-1)) P_t. NaN where none is true."""
    if not truth_N.any():
        return math.nan
    found = points(truth_N, scores_N)
    return float((np.diff(found.recall_T, prepend=0.0) * found.precision_T).sum())


def recall_at_precision(truth_N: np.ndarray, scores_N: np.ndarray, precision: float) -> float:
    """The highest recall of any threshold whose precision is at least `precision`; 0 where none has it.

    At 0.8 the RP80 of Huang et al. (arXiv:1904.05342). NaN where none is true.
    """
    if not truth_N.any():
        return math.nan
    found = points(truth_N, scores_N)
    return float(found.recall_T[found.precision_T >= precision].max(initial=0.0))


def calibration(truth_N: np.ndarray, probabilities_N: np.ndarray, num_bins: int = 10) -> Calibration:
    """Expected calibration error over bins of equal width (Guo et al., arXiv:1706.04599), and the bins' points."""
    edges = np.linspace(0, 1, num_bins + 1)[1:-1]
    bins_N = np.searchsorted(edges, probabilities_N)
    counts_K = np.bincount(bins_N, minlength=num_bins)
    filled_K = counts_K > 0
    counts_K = counts_K[filled_K]
    predicted_K = np.bincount(bins_N, probabilities_N, num_bins)[filled_K] / counts_K
    observed_K = np.bincount(bins_N, truth_N, num_bins)[filled_K] / counts_K
    error = float((counts_K * np.abs(predicted_K - observed_K)).sum() / max(1, len(bins_N)))
    return Calibration(predicted_K, observed_K, counts_K, error)


def outcomes(truth_ExC: np.ndarray, decided_ExC: np.ndarray) -> np.ndarray:
    """Ex3xC: whether a label was rightly given, wrongly given, missed."""
    return np.stack([truth_ExC & decided_ExC, ~truth_ExC & decided_ExC, truth_ExC & ~decided_ExC], axis=1)


def met_or_not(truth_ExC: np.ndarray, decided_ExC: np.ndarray) -> MetOrNot:
    """Whether each label is given (met) and whether it is not given, both scored, by the script of n2c2 2018 track 1.

    Its order of systems is by the micro F1. The script is filannim/2018_n2c2_evaluation_scripts, track1_eval.py.
    """

    def of(met_3: np.ndarray, not_met_3: np.ndarray) -> MetRates:
        sides = []
        for right, wrong, missed in (met_3.tolist(), not_met_3.tolist()):
            sides.append(rates(right, right + wrong, right + missed))
        met, not_met = sides
        return MetRates(*met, *not_met, (met.f1 + not_met.f1) / 2, (met.recall + not_met.recall) / 2)

    met_3xC, not_met_3xC = outcomes(truth_ExC, decided_ExC).sum(0), outcomes(~truth_ExC, ~decided_ExC).sum(0)
    of_labels = [of(met_3, not_met_3) for met_3, not_met_3 in zip(met_3xC.T, not_met_3xC.T, strict=True)]
    macro = MetRates(*np.mean(of_labels, axis=0).tolist())
    return MetOrNot(of_labels, of(met_3xC.sum(1), not_met_3xC.sum(1)), macro)


def f1(outcomes_3xC: np.ndarray) -> np.ndarray:
    """F1 of each label from sums of `outcomes`; NaN for a label neither annotated nor given."""
    right_C, wrong_C, missed_C = outcomes_3xC.astype(float)
    return _ratio(2 * right_C, 2 * right_C + wrong_C + missed_C)


def precision(outcomes_3xC: np.ndarray) -> np.ndarray:
    """Of the times each label was given, how many were right; NaN for one never given."""
    return _ratio(outcomes_3xC[0], outcomes_3xC[0] + outcomes_3xC[1])


def recall(outcomes_3xC: np.ndarray) -> np.ndarray:
    """Of the times each label was annotated, how many were found; NaN for one never annotated."""
    return _ratio(outcomes_3xC[0], outcomes_3xC[0] + outcomes_3xC[2])


def macro(values_C: np.ndarray) -> float:
    """The mean over labels for which the value is defined."""
    defined = values_C[~np.isnan(values_C)]
    return float(defined.mean()) if len(defined) else math.nan


def _ratio(tops_C: np.ndarray, bottoms_C: np.ndarray) -> np.ndarray:
    return np.divide(tops_C, bottoms_C, out=np.full(len(tops_C), np.nan), where=bottoms_C > 0)
