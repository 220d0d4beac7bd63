"""Correlation of annotated and predicted numbers.

Shape legend: E examples, M moments.
"""

import math

import numpy as np

from clinicalbert_jax.finetune.classification.scores import mean_ranks
from clinicalbert_jax.finetune.task import Scores

_ROUNDING = 1e-14  # of equal values, relative to their squares


def score(ids: list[str], gold_E: np.ndarray, found_E: np.ndarray) -> Scores:
    """Pearson and Spearman correlation and the mean squared error; errors are off by more than 1."""
    moments_ExM = moments(gold_E, found_E)
    values = {
        "pearson": pearson(moments_ExM.sum(0)),
        "spearman": pearson(moments(mean_ranks(gold_E), mean_ranks(found_E)).sum(0)),
        "mse": float(np.mean((gold_E - found_E) ** 2)),
    }
    far = np.flatnonzero(abs(gold_E - found_E) > 1)
    errors = [{"id": ids[n], "annotated": float(gold_E[n]), "found": float(found_E[n])} for n in far]
    return Scores(values, "pearson", moments_ExM, pearson, errors=errors)


def moments(x_E: np.ndarray, y_E: np.ndarray) -> np.ndarray:
    """E x 6: 1, x, y, x², y² and xy of each example; from their sums follows the correlation."""
    return np.stack([np.ones(len(x_E)), x_E, y_E, x_E * x_E, y_E * y_E, x_E * y_E], axis=1)


def pearson(sums_M: np.ndarray) -> float:
    """Pearson correlation from sums of moments; NaN where all values of one side are equal."""
    n, x, y, xx, yy, xy = sums_M.tolist()
    variances = n * xx - x * x, n * yy - y * y
    if variances[0] <= _ROUNDING * n * xx or variances[1] <= _ROUNDING * n * yy:
        return math.nan
    return float((n * xy - x * y) / math.sqrt(variances[0] * variances[1]))
