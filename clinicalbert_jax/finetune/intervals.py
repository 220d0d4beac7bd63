"""Scores and differences of models with 95 % intervals over documents, and which differences may be claimed.

An interval is that of a jackknife which leaves out one document (or patient) at a time, with the quantiles of Student's
t (Efron and Stein 1981). Its degrees of freedom are those of the effective number of documents, (sum of sizes)² / sum
of squared sizes, less one, since few large documents tell as much as fewer documents of equal size (Carter, Schnepel
and Steigerwald 2017). The percentile bootstrap is too narrow at 30 documents (docs/benchmarks.md).

A p-value holds the difference against other documents and other seeds. The margins of both are added in squares, each
with its own degrees of freedom (Zou and Donner 2008): with one number of degrees for the sum (Satterthwaite 1946) equal
models of two seeds were told apart in 9 % of simulated families instead of 5 %.

Shape legend: S seeds, E examples, D documents, M counts.
"""

import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import special

LEVEL = 0.95
_POWER = 0.8  # of the difference that a test "could have seen"
_ROUNDING = 1e-12  # documents that move a score by no more than this are alike

OfSums = Callable[[np.ndarray], float]


class Estimate(NamedTuple):
    """A value with its 95 % interval over documents; NaN where they are too few for one, or all alike.

    Of documents that are all alike, as where a score is perfect, the spread says nothing about other documents.
    """

    value: float
    low: float
    high: float


class Difference(NamedTuple):
    """How much better the second model is than the first on the same documents.

    `low`, `high`: over documents, for the trainings that were made; NaN as those of `Estimate`, but 0 where the models
    are the same on every document. `p_value`: of no difference with other documents
    and other seeds, two-sided; NaN of one seed, for then nobody knows what another would change. `visible`: the
    difference that would have been claimed four times out of five; NaN of one seed too.
    """

    value: float
    low: float
    high: float
    p_value: float
    visible: float


def by_document(documents: Sequence[str], counts_ExM: np.ndarray) -> np.ndarray:
    """The counts of each document, sums over its examples, float64 D x M; documents in the order of `names`."""
    number_of = {name: number for number, name in enumerate(names(documents))}
    counts_DxM = np.zeros((len(number_of), counts_ExM.shape[1]))
    np.add.at(counts_DxM, [number_of[name] for name in documents], counts_ExM)
    return counts_DxM


def names(documents: Iterable[str]) -> list[str]:
    """Each document once, in the one order in which everything that is known of documents is kept."""
    return sorted(set(documents))


def estimate(counts_SxDxM: np.ndarray, of_sums: OfSums) -> Estimate:
    """The score of a model, its mean over seeds, with the interval of another draw of documents."""
    value, documents = _jackknife(counts_SxDxM, None, of_sums)
    return Estimate(value, *_bounds(value, documents))


def difference(first_SxDxM: np.ndarray, second_SxDxM: np.ndarray, of_sums: OfSums, family: int = 1) -> Difference:
    """Second less first, each a mean over its seeds; both on the same documents in the same order.

    `family`: of how many differences this is one, all of which `claimed` judges.
    """
    value, documents = _jackknife(first_SxDxM, second_SxDxM, of_sums)
    seeds = _over_seeds([[of_sums(sums_M) for sums_M in of.sum(1)] for of in (first_SxDxM, second_SxDxM)])
    is_same = documents.value == 0 and abs(value) <= _ROUNDING
    bounds = (0.0, 0.0) if is_same else _bounds(value, documents)
    if seeds is None:
        return Difference(value, *bounds, math.nan, math.nan)
    errors = [documents, seeds]
    p_value = _p_value(value, errors)
    visible = _margin((1 - LEVEL) / family, errors) + _margin(2 * (1 - _POWER), errors)
    return Difference(value, *bounds, p_value, visible)


def claimed(p_values: Sequence[float], level: float = 1 - LEVEL) -> list[bool]:
    """Which hypotheses of no difference are rejected, so that in all families at most `level` hold a wrong rejection.

    Holm (1979): the smallest of n p-values is held against level / n, the next against level / (n - 1), and so on until
    one is larger. An undefined p-value rejects nothing.
    """
    order = sorted(range(len(p_values)), key=lambda n: math.inf if math.isnan(p_values[n]) else p_values[n])
    found = [False] * len(p_values)
    for rank, number in enumerate(order):
        if not p_values[number] <= level / (len(order) - rank):
            break
        found[number] = True
    return found


def sentence(found: Difference, is_claimed: bool, family: int) -> str:
    """A difference of scores in words, in points (hundredths)."""
    value, low, high = (100 * one for one in (found.value, found.low, found.high))
    if is_claimed:
        sign = 1 if value > 0 else -1
        bounds = sorted((sign * low, sign * high))
        interval = f"{bounds[0]:.1f} to {bounds[1]:.1f}" if math.isfinite(low) else "on every document alike"
        return f"{'better' if value > 0 else 'worse'} by {abs(value):.1f} points, {interval}"
    if not math.isfinite(low):
        if not math.isfinite(value):
            return "not known: a score is not defined"
        return "not known: documents that are too few, or all alike, do not tell what others would show"
    if low == high == 0:
        return "the same on every document"
    if not low <= 0 <= high:
        if math.isnan(found.p_value):
            doubt = "of these trainings alone: one seed does not tell what another would change"
        elif found.p_value > 1 - LEVEL:
            doubt = "which may be chance: other seeds may change it"
        else:
            doubt = f"which may be chance: {family} differences were looked at"
        return f"{value:+.1f} points, {low:+.1f} to {high:+.1f}, {doubt}"
    if math.isnan(found.visible):
        return "no difference of these trainings; one seed does not tell what another would change"
    return f"no difference that this test could see; it could see {100 * found.visible:.1f} points"


class _Error(NamedTuple):
    """A standard error, and the degrees of freedom with which it is known."""

    value: float
    degrees: float

    def margin(self, p: float) -> float:
        """What the estimate is further from the truth in a fraction p of cases."""
        return -float(special.stdtrit(self.degrees, p / 2)) * self.value


def _jackknife(first_SxDxM: np.ndarray, second_SxDxM: np.ndarray | None, of_sums: OfSums) -> tuple[float, _Error]:
    """The statistic and its error over documents."""
    parts = [(1.0, first_SxDxM)] if second_SxDxM is None else [(-1.0, first_SxDxM), (1.0, second_SxDxM)]
    num_documents = first_SxDxM.shape[1]
    value = sum(sign * _mean(of_sums, counts_SxDxM.sum(1)) for sign, counts_SxDxM in parts)
    sizes_D = np.sum([np.abs(counts_SxDxM).sum((0, 2)) for _, counts_SxDxM in parts], axis=0)
    effective = sizes_D.sum() ** 2 / max((sizes_D**2).sum(), 1e-300)
    if effective <= 1.5:
        return value, _Error(math.nan, 1.0)
    left_out_D = sum(
        sign * np.array([_mean(of_sums, sums_SxM) for sums_SxM in np.moveaxis(_without_each(counts_SxDxM), 1, 0)])
        for sign, counts_SxDxM in parts
    )
    if not (math.isfinite(value) and np.isfinite(left_out_D).all()):  # a score that is not defined
        return value, _Error(math.nan, 1.0)
    variance = (num_documents - 1) / num_documents * ((left_out_D - np.mean(left_out_D)) ** 2).sum()
    error = math.sqrt(variance)
    return value, _Error(error if error > _ROUNDING else 0.0, effective - 1)


def _bounds(value: float, documents: _Error) -> tuple[float, float]:
    if documents.value == 0:
        return math.nan, math.nan
    margin = documents.margin(1 - LEVEL)
    return value - margin, value + margin


def _without_each(counts_SxDxM: np.ndarray) -> np.ndarray:
    """The sums over all documents but one, for each."""
    return counts_SxDxM.sum(1, keepdims=True) - counts_SxDxM


def _mean(of_sums: OfSums, sums_SxM: np.ndarray) -> float:
    return sum(map(of_sums, sums_SxM)) / len(sums_SxM)


def _over_seeds(scores: Sequence[Sequence[float]]) -> _Error | None:
    """The error of a difference of two means over seeds, as in Student's test; None where a model has one seed."""
    if min(map(len, scores)) == 1:
        return None
    degrees = sum(len(of) - 1 for of in scores)
    variance = sum((len(of) - 1) * statistics.variance(of) for of in scores) / degrees
    return _Error(math.sqrt(variance * sum(1 / len(of) for of in scores)), degrees)


def _margin(p: float, errors: Sequence[_Error]) -> float:
    return math.hypot(*(error.margin(p) for error in errors))


def _p_value(value: float, errors: Sequence[_Error]) -> float:
    """The p whose margin the value just reaches."""
    if any(math.isnan(error.value) for error in errors):
        return math.nan
    # Where all documents agree: a sign test, of as many equal documents as these are worth.
    least = 1e-100 if errors[0].value > 0 else max(2.0 ** -errors[0].degrees, 1e-100)
    if value == 0 or abs(value) <= _margin(1.0, errors):
        return 1.0
    if abs(value) >= _margin(least, errors):
        return least
    from scipy import optimize  # a third of a second, for one of many commands that score

    return math.exp(optimize.bisect(lambda log_p: _margin(math.exp(log_p), errors) - abs(value), math.log(least), 0.0))
