"""Ratios of sums with 95 % intervals, by resampling patients: the notes of one patient are not independent.

Shape legend: N items, G patients, C columns (one ratio each), R resamples.
"""

from typing import NamedTuple

import numpy as np

RESAMPLES = 1000
_AT_ONCE = 50  # resamples whose counts are in memory at a time


class Estimate(NamedTuple):
    """A value and its 95 % interval (percentile bootstrap; NaN where there are fewer than two patients)."""

    value: float
    low: float
    high: float


class PatientSums(NamedTuple):
    """Sums by patient of the numerators and of the denominators; each column is another ratio."""

    numerators_GxC: np.ndarray
    denominators_GxC: np.ndarray


def sums_by_patient(
    patients_N: np.ndarray, num_patients: int, values_N: np.ndarray, columns_N: np.ndarray, num_columns: int
) -> PatientSums:
    """Sum `values_N` and count items by patient and column (such as a note category or a token class)."""
    cells_N = patients_N * num_columns + columns_N
    shape = num_patients, num_columns
    sums = np.bincount(cells_N, values_N, num_patients * num_columns).reshape(shape)
    return PatientSums(sums, np.bincount(cells_N, minlength=num_patients * num_columns).reshape(shape).astype(float))


def ratios(sums: PatientSums, seed: int = 0) -> list[Estimate]:
    """For each column the ratio of its totals, with its interval. Equal seeds resample the same patients."""
    return _estimates(*_totals_and_resamples(sums, seed))


def _totals_and_resamples(sums: PatientSums, seed: int) -> tuple[np.ndarray, np.ndarray]:
    num_patients, num_columns = sums.numerators_GxC.shape
    generator = np.random.default_rng(seed)
    resampled_RxC = np.full((RESAMPLES, num_columns), np.nan)
    with np.errstate(divide="ignore", invalid="ignore"):
        values_C = sums.numerators_GxC.sum(0) / sums.denominators_GxC.sum(0)
        for start in range(0, RESAMPLES if num_patients > 1 else 0, _AT_ONCE):
            counts_RxG = generator.multinomial(num_patients, np.full(num_patients, 1 / num_patients), _AT_ONCE)
            resampled_RxC[start : start + _AT_ONCE] = (counts_RxG @ sums.numerators_GxC) / (
                counts_RxG @ sums.denominators_GxC
            )
    # With one patient in a column, all resamples that hold the patient are the same: no interval.
    resampled_RxC[:, (sums.denominators_GxC > 0).sum(0) < 2] = np.nan
    return values_C, resampled_RxC


def _estimates(values_C: np.ndarray, resampled_RxC: np.ndarray) -> list[Estimate]:
    estimates = []
    for value, resampled_R in zip(values_C.tolist(), resampled_RxC.T, strict=True):
        finite = resampled_R[np.isfinite(resampled_R)]
        low, high = np.quantile(finite, (0.025, 0.975)).tolist() if len(finite) else (np.nan, np.nan)
        estimates.append(Estimate(value, low, high))
    return estimates
