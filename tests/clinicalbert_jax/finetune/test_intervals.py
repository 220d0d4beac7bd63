"""Intervals that cover, claims that are seldom wrong, and both against independent computations."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from clinicalbert_jax.finetune import intervals
from clinicalbert_jax.finetune.intervals import Difference

pytestmark = pytest.mark.fast


def f1(sums_M: np.ndarray) -> float:
    """Micro F1 from items right, found and annotated."""
    return float(2 * sums_M[0] / (sums_M[1] + sums_M[2]))


def drawn(
    random: np.random.Generator,
    num_documents: int,
    gains: tuple[float, ...],
    num_seeds: int = 1,
    seed_deviation: float = 0.0,
) -> list[np.ndarray]:
    """Counts, S x D x 3, of models that differ by `gains` in log-odds, on documents of unequal size and difficulty.

    A seed moves a model by `seed_deviation` on all documents.
    """
    annotated_D = np.maximum(1, random.lognormal(1.6, 0.9, num_documents)).astype(int)
    ease_D = random.normal(1.0, 0.8, num_documents)
    models = []
    for gain in gains:
        of_model_D = ease_D + gain + random.normal(0, 0.4, num_documents)
        of_seeds = []
        for _ in range(num_seeds):
            of_seed = random.normal(0, seed_deviation) if seed_deviation else 0.0
            chance_D = 1 / (1 + np.exp(-(of_model_D + of_seed)))
            right_D = random.binomial(annotated_D, chance_D)
            found_D = right_D + random.poisson(annotated_D * 0.25 * (1 - chance_D) + 0.1)
            of_seeds.append(np.stack([right_D, found_D, annotated_D], 1).astype(float))
        models.append(np.stack(of_seeds))
    return models


def expected_f1(gain: float) -> float:
    """What the F1 of a model of `drawn` tends to."""
    random = np.random.default_rng(0)
    return f1(sum(drawn(random, 200_000, (gain,))[0][0].sum(0) for _ in range(5)))


def coverage(num_documents: int, simulations: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    true = expected_f1(0.3) - expected_f1(0.0)
    found = (intervals.difference(*drawn(random, num_documents, (0.0, 0.3)), f1) for _ in range(simulations))
    return sum(one.low <= true <= one.high for one in found) / simulations


def wrongly_claimed(
    num_documents: int, num_models: int, simulations: int, seed: int, num_seeds: int = 3, seed_deviation: float = 0.0
) -> float:
    """The fraction of comparisons of equal models in which some difference is claimed."""
    random = np.random.default_rng(seed)
    wrong = 0
    for _ in range(simulations):
        models = drawn(random, num_documents, (0.0,) * num_models, num_seeds, seed_deviation)
        pairs = [(first, second) for number, first in enumerate(models) for second in models[number + 1 :]]
        wrong += any(intervals.claimed([intervals.difference(*pair, f1).p_value for pair in pairs]))
    return wrong / simulations


@pytest.mark.parametrize("num_documents", [30, 100])
def test_intervals_cover_the_difference(num_documents: int) -> None:
    assert 0.92 <= coverage(num_documents, 400, seed=2) <= 0.98


@pytest.mark.parametrize("seed_deviation", [0.0, 0.3])
def test_equal_models_are_seldom_told_apart(seed_deviation: float) -> None:
    """Also where the seeds of one model differ by more than its documents tell."""
    assert wrongly_claimed(30, 3, 150, seed=3, seed_deviation=seed_deviation) <= 0.085


@pytest.mark.soak
@pytest.mark.parametrize("num_documents", [30, 100, 500])
def test_intervals_cover_the_difference_in_95_percent(num_documents: int) -> None:
    found = coverage(num_documents, 2000, seed=1)
    print(f"{num_documents} documents: {found:.2%} of 2,000 intervals cover the difference")
    assert 0.935 <= found <= 0.965


@pytest.mark.soak
@pytest.mark.parametrize("num_seeds", [2, 5])
@pytest.mark.parametrize("seed_deviation", [0.0, 0.1, 0.3])
@pytest.mark.parametrize("num_documents", [30, 100, 500])
def test_a_family_of_equal_models_has_a_claim_in_5_percent(
    num_documents: int, seed_deviation: float, num_seeds: int
) -> None:
    found = wrongly_claimed(num_documents, 4, 2000, 1, num_seeds, seed_deviation)
    print(f"{num_documents} documents, {num_seeds} seeds, {seed_deviation}: a claim in {found:.2%} of 2,000 families")
    assert found <= 0.065


def test_equal_documents_give_the_t_test() -> None:
    """Of documents of one item each, the jackknife of a mean is Student's t."""
    random = np.random.default_rng(0)
    first_D, second_D = random.integers(0, 2, (2, 40)).astype(float)
    counts = [np.stack([right_D, np.ones(40)], 1)[None] for right_D in (first_D, second_D)]
    found = intervals.difference(counts[0], counts[1], lambda sums_M: float(sums_M[0] / sums_M[1]))
    expected = stats.ttest_1samp(second_D - first_D, 0)
    low, high = expected.confidence_interval(0.95)
    sizes_D = sum(counts).sum((0, 2))
    degrees = sizes_D.sum() ** 2 / (sizes_D**2).sum() - 1
    scale = stats.t.ppf(0.975, degrees) / stats.t.ppf(0.975, 39)
    middle = (second_D - first_D).mean()
    assert found.value == pytest.approx(middle)
    assert found.low == pytest.approx(middle - (middle - low) * scale)
    assert found.high == pytest.approx(middle + (high - middle) * scale)
    assert math.isnan(found.p_value)  # of one seed
    twice = intervals.difference(
        *(np.concatenate([one, one]) for one in counts), lambda sums_M: float(sums_M[0] / sums_M[1])
    )
    assert twice.p_value == pytest.approx(2 * stats.t.sf(abs(expected.statistic), degrees))


def test_equal_documents_give_the_t_test_over_seeds() -> None:
    """Of a difference that is the same on every document, what remains is Student's test over seeds."""
    first_S, second_S = np.array([60.0, 66.0, 63.0, 70.0]), np.array([72.0, 71.0, 75.0])
    counts = [
        np.stack([np.stack([np.full(50, one), np.full(50, 100.0)], 1) for one in of]) for of in (first_S, second_S)
    ]
    found = intervals.difference(*counts, lambda sums_M: float(sums_M[0] / sums_M[1]))
    assert math.isnan(found.low)
    assert math.isnan(found.high)
    assert found.p_value == pytest.approx(stats.ttest_ind(second_S, first_S, equal_var=True).pvalue)
    assert not intervals.claimed([found.p_value] * 6)[0]


def test_documents_with_nothing_to_score_make_no_difference_surer() -> None:
    """Two documents that tell, which agree on every seed, are two however many others hold nothing."""
    alone = [np.tile([float(right), 6.0], (3, 2, 1)) for right in (0, 6)]
    among = [np.concatenate([of, np.zeros((3, 198, 2))], axis=1) for of in alone]
    for counts in (alone, among):
        assert intervals.difference(*counts, lambda sums_M: float(sums_M[0] / sums_M[1])).p_value == 0.5


@pytest.mark.parametrize("right", [0.0, 1.0, 0.7])
@pytest.mark.parametrize("num_seeds", [1, 3])
def test_documents_that_are_all_alike_give_no_interval(right: float, num_seeds: int) -> None:
    """A perfect score of forty documents does not tell that another document is never wrong."""
    counts = np.tile([right, 1.0], (num_seeds, 40, 1)) * np.arange(1.0, 41)[:, None]
    found = intervals.estimate(counts, accuracy)
    assert found.value == pytest.approx(right)
    assert np.isnan(found[1:]).all()
    same = intervals.difference(counts, counts, accuracy)
    assert (same.value, same.low, same.high) == (0, 0, 0)
    assert intervals.sentence(same, False, 1) == "the same on every document"
    other = intervals.difference(counts, counts * [0.5, 1.0], accuracy)
    assert math.isnan(other.low) == (right > 0)
    wrong_once = counts - np.eye(40)[0][:, None] * [right, 0.0] if right else counts + np.eye(40)[0][:, None] * [1, 0]
    assert np.isfinite(intervals.estimate(wrong_once, accuracy)).all()


def accuracy(sums_M: np.ndarray) -> float:
    return float(sums_M[0] / sums_M[1])


def test_seeds_are_averaged() -> None:
    random = np.random.default_rng(0)
    one, two, other = drawn(random, 20, (0.0, 0.0, 0.5))
    both = np.concatenate([one, two])
    found = intervals.difference(both, other, f1).value
    assert found == pytest.approx(f1(other[0].sum(0)) - (f1(one[0].sum(0)) + f1(two[0].sum(0))) / 2)
    assert intervals.estimate(both, f1).value == pytest.approx((f1(one[0].sum(0)) + f1(two[0].sum(0))) / 2)


def test_examples_of_a_document_are_summed() -> None:
    counts_DxM = intervals.by_document(["b", "a", "b"], np.array([[1, 2], [3, 4], [5, 6]]))
    assert counts_DxM.tolist() == [[3, 4], [6, 8]]


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_is_holm(p_values: list[float]) -> None:
    """Against the adjusted p-values of the textbook, computed the other way round."""
    order = np.argsort(p_values, kind="stable")
    adjusted = np.minimum(1, np.maximum.accumulate(np.array(p_values)[order] * np.arange(len(p_values), 0, -1)))
    expected = [False] * len(p_values)
    for place, number in enumerate(order):
        expected[number] = bool(adjusted[place] <= 0.05)
    close = np.isclose(adjusted, 0.05, rtol=1e-9)
    assert intervals.claimed(p_values, 0.05) == expected or close.any()


def test_nothing_is_claimed_of_what_is_not_known() -> None:
    alone = drawn(np.random.default_rng(0), 1, (0.0, 1.0))
    found = intervals.difference(*alone, f1)
    assert math.isnan(found.low)
    assert math.isnan(found.p_value)
    assert intervals.claimed([found.p_value, 0.001]) == [False, True]
    assert intervals.sentence(found, False, 1) == (
        "not known: documents that are too few, or all alike, do not tell what others would show"
    )


@pytest.mark.parametrize("constant_on", [30, 29])
def test_a_score_that_is_not_defined_is_neither_an_error_nor_a_claim(constant_on: int) -> None:
    """A correlation with a constant; with one on all documents but one, the jackknife meets it on the way."""
    random = np.random.default_rng(0)
    gold_D, found_D = random.normal(size=(2, 30))
    constant_D = np.where(np.arange(30) < constant_on, 1.0, 2.0)
    first, second = (
        np.stack([moments(gold_D, of_seed_D) for of_seed_D in of])
        for of in ([gold_D + found_D * scale for scale in (0.1, 0.2, 0.3)], [constant_D, gold_D, constant_D])
    )
    for pair in ((first, second), (second, first)):
        found = intervals.difference(*pair, pearson)
        assert np.isnan([found.low, found.high, found.p_value]).all()
        assert intervals.claimed([found.p_value]) == [False]
        assert intervals.sentence(found, False, 1).startswith("not known: ")
    assert math.isnan(intervals.estimate(second, pearson).low)


def moments(gold_D: np.ndarray, found_D: np.ndarray) -> np.ndarray:
    """The counts, D x 6, of which `pearson` is made."""
    return np.stack([np.ones_like(gold_D), gold_D, found_D, gold_D**2, found_D**2, gold_D * found_D], 1)


def pearson(sums_M: np.ndarray) -> float:
    count, gold, found, gold_2, found_2, both = sums_M
    variance = (gold_2 / count - (gold / count) ** 2) * (found_2 / count - (found / count) ** 2)
    return float((both / count - gold * found / count**2) / math.sqrt(variance)) if variance > 1e-12 else math.nan


@pytest.mark.parametrize(
    ("found", "is_claimed", "expected"),
    [
        (Difference(0.012, 0.004, 0.020, 0.01, 0.012), True, "better by 1.2 points, 0.4 to 2.0"),
        (Difference(-0.012, -0.020, -0.004, 0.01, 0.012), True, "worse by 1.2 points, 0.4 to 2.0"),
        (
            Difference(0.002, -0.009, 0.013, 0.7, 0.015),
            False,
            "no difference that this test could see; it could see 1.5 points",
        ),
        (
            Difference(0.012, 0.001, 0.023, 0.04, 0.015),
            False,
            "+1.2 points, +0.1 to +2.3, which may be chance: 6 differences were looked at",
        ),
        (Difference(0.0, 0.0, 0.0, 1.0, 0.0), False, "the same on every document"),
        (Difference(-0.12, math.nan, math.nan, 1e-6, 0.1), True, "worse by 12.0 points, on every document alike"),
        (
            Difference(0.08, 0.031, 0.128, 0.9, 0.9),
            False,
            "+8.0 points, +3.1 to +12.8, which may be chance: other seeds may change it",
        ),
        (
            Difference(0.08, 0.031, 0.128, math.nan, math.nan),
            False,
            "+8.0 points, +3.1 to +12.8, of these trainings alone: one seed does not tell what another would change",
        ),
        (
            Difference(0.01, -0.031, 0.051, math.nan, math.nan),
            False,
            "no difference of these trainings; one seed does not tell what another would change",
        ),
    ],
)
def test_sentences(found: Difference, is_claimed: bool, expected: str) -> None:
    assert intervals.sentence(found, is_claimed, 6) == expected


@pytest.mark.parametrize(("family", "effect"), [(1, 0.33), (20, 0.45)])
def test_the_visible_difference_is_claimed_four_times_out_of_five(family: int, effect: float) -> None:
    """Planted as large as the test says that it could see, beside others that are none, it is claimed so often."""
    random = np.random.default_rng(5)
    pairs = [drawn(random, 100, (0.0, effect), num_seeds=5) for _ in range(100)]
    found = [intervals.difference(*pair, f1, family) for pair in pairs]
    true, visible = expected_f1(effect) - expected_f1(0.0), float(np.median([one.visible for one in found]))
    power = np.mean([intervals.claimed([one.p_value] + [1.0] * (family - 1))[0] for one in found])
    claimed_from = -stats.norm.ppf(0.025 / family)
    expected = stats.norm.cdf((true / visible) * (claimed_from + 0.84) - claimed_from)
    assert power == pytest.approx(expected, abs=0.08)
