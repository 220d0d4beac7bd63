"""Our metrics equal scikit-learn's on thousands of random cases."""

import importlib
import math
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest

from clinicalbert_jax.finetune.classification import scores as measure

CASES = 1000


@pytest.fixture
def sklearn() -> Iterator[ModuleType]:
    """scikit-learn's metrics, not checking their parameters, which takes most of their time."""
    metrics = pytest.importorskip("sklearn.metrics")
    with importlib.import_module("sklearn").config_context(skip_parameter_validation=True, assume_finite=True):
        yield metrics


def random_case(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Truth and scores of 2 to 60 decisions, of both kinds; every other time with many ties."""
    generator = np.random.default_rng(seed)
    size = int(generator.integers(2, 60))
    truth_N = generator.random(size) < generator.uniform(0.05, 0.95)
    truth_N[:2] = True, False
    scores_N = np.clip(generator.normal(0.4 + 0.2 * truth_N, 0.2), 0, 1)
    return truth_N, np.round(scores_N, 1) if seed % 2 else scores_N


def test_areas_and_recall_at_precision_equal_scikit_learn(sklearn: ModuleType) -> None:
    for seed in range(CASES):
        truth_N, scores_N = random_case(seed)
        assert measure.auroc(truth_N, scores_N) == pytest.approx(sklearn.roc_auc_score(truth_N, scores_N), abs=1e-12)
        area = sklearn.average_precision_score(truth_N, scores_N)
        assert measure.average_precision(truth_N, scores_N) == pytest.approx(area, abs=1e-12)
        precision_T, recall_T, _ = sklearn.precision_recall_curve(truth_N, scores_N)
        expected = recall_T[precision_T >= 0.8].max()
        assert measure.recall_at_precision(truth_N, scores_N, 0.8) == pytest.approx(expected, abs=1e-12)


def test_curves_equal_scikit_learn(sklearn: ModuleType) -> None:
    for seed in range(0, CASES, 10):
        truth_N, scores_N = random_case(seed)
        false_T, true_T, _ = sklearn.roc_curve(truth_N, scores_N, drop_intermediate=False)
        found = measure.points(truth_N, scores_N)
        np.testing.assert_allclose(found.false_positive_rate_T, false_T[1:])
        np.testing.assert_allclose(found.recall_T, true_T[1:])


def test_calibration_equals_scikit_learn(sklearn: ModuleType) -> None:
    calibration_curve = importlib.import_module("sklearn.calibration").calibration_curve
    for seed in range(CASES):
        truth_N, probabilities_N = random_case(seed)
        observed_K, predicted_K = calibration_curve(truth_N, probabilities_N, n_bins=10)
        found = measure.calibration(truth_N, probabilities_N)
        np.testing.assert_allclose(found.observed_K, observed_K)
        np.testing.assert_allclose(found.predicted_K, predicted_K)
        assert found.counts_K.sum() == len(truth_N)
        assert found.error == pytest.approx(np.average(np.abs(observed_K - predicted_K), weights=found.counts_K))


@pytest.mark.parametrize("multi_label", [False, True])
def test_f1_precision_and_recall_equal_scikit_learn(sklearn: ModuleType, multi_label: bool) -> None:
    for seed in range(CASES):
        generator = np.random.default_rng(seed)
        num_labels, size = int(generator.integers(2, 8)), int(generator.integers(1, 40))
        if multi_label:
            truth_ExC, decided_ExC = generator.random((2, size, num_labels)) < generator.uniform(0.05, 0.6)
            truth, decided, labels = truth_ExC, decided_ExC, None
        else:
            truth, decided = generator.integers(num_labels, size=(2, size))
            truth_ExC, decided_ExC = np.eye(num_labels, dtype=bool)[truth], np.eye(num_labels, dtype=bool)[decided]
            labels = np.arange(num_labels)
        outcomes_3xC = measure.outcomes(truth_ExC, decided_ExC).sum(0)
        given = {"zero_division": math.nan, "labels": labels}
        scores = sklearn.precision_recall_fscore_support
        precision_C, recall_C, f1_C, _ = scores(truth, decided, average=None, **given)
        np.testing.assert_allclose(measure.precision(outcomes_3xC), precision_C)
        np.testing.assert_allclose(measure.recall(outcomes_3xC), recall_C)
        np.testing.assert_allclose(measure.f1(outcomes_3xC), f1_C)
        if outcomes_3xC.any():
            micro = measure.f1(outcomes_3xC.sum(1, keepdims=True))[0]
            assert micro == pytest.approx(scores(truth, decided, average="micro", **given)[2])
            macro = scores(truth, decided, average="macro", **given)[2]
            assert measure.macro(measure.f1(outcomes_3xC)) == pytest.approx(macro)


@pytest.mark.fast
def test_what_is_not_defined_is_nan() -> None:
    one_kind, scores = np.ones(3, bool), np.array([0.1, 0.5, 0.9])
    assert math.isnan(measure.auroc(one_kind, scores))
    assert math.isnan(measure.auroc(~one_kind, scores))
    assert math.isnan(measure.average_precision(~one_kind, scores))
    assert math.isnan(measure.recall_at_precision(~one_kind, scores, 0.8))
    # No threshold reaches the precision.
    assert measure.recall_at_precision(np.array([True, False, False]), scores, 0.8) == 0


@pytest.mark.fast
def test_known_answers() -> None:
    truth, scores = np.array([True, False, True, False]), np.array([0.9, 0.8, 0.7, 0.1])
    assert measure.auroc(truth, scores) == 0.75
    assert measure.average_precision(truth, scores) == pytest.approx(1 / 2 + 1 / 2 * 2 / 3)
    assert measure.recall_at_precision(truth, scores, 0.8) == 0.5
    # Two bins: 0.1 where nothing came true, and 0.8 on average where two of three did.
    assert measure.calibration(truth, scores, 2).error == pytest.approx(0.25 * 0.1 + 0.75 * (0.8 - 2 / 3))


@pytest.mark.fast
def test_met_and_not_met_are_counted_as_n2c2_2018_track_1_counts_them() -> None:
    """Against a count by dictionaries of patients, a criterion after the other, as the script goes."""
    generator = np.random.default_rng(0)
    for _ in range(50):
        shape = (int(generator.integers(1, 12)), int(generator.integers(1, 5)))
        truth_ExC, decided_ExC = (generator.random(shape) < generator.random() for _ in range(2))
        of_labels, sums = [], np.zeros((2, 3))
        for label in range(shape[1]):
            pairs = [(bool(t[label]), bool(d[label])) for t, d in zip(truth_ExC, decided_ExC, strict=True)]
            sides = []
            for side, value in enumerate((True, False)):
                right = pairs.count((value, value))
                wrong, missed = pairs.count((not value, value)), pairs.count((value, not value))
                sums[side] += right, wrong, missed
                sides.append(by_counts(right, wrong, missed))
            of_labels.append([*sides[0], *sides[1], (sides[0][2] + sides[1][2]) / 2, (sides[0][1] + sides[1][1]) / 2])
        met, not_met = (by_counts(*side) for side in sums)
        found = measure.met_or_not(truth_ExC, decided_ExC)
        np.testing.assert_allclose(found.of_labels, of_labels)
        np.testing.assert_allclose(found.macro, np.mean(of_labels, axis=0))
        np.testing.assert_allclose(found.micro, [*met, *not_met, (met[2] + not_met[2]) / 2, (met[1] + not_met[1]) / 2])


def by_counts(right: float, wrong: float, missed: float) -> tuple[float, float, float]:
    precision = right / (right + wrong) if right + wrong else 0.0
    recall = right / (right + missed) if right + missed else 0.0
    return precision, recall, 2 * right / (2 * right + wrong + missed) if right else 0.0
