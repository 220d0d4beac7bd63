"""AUC, rates, exposure and bounds against independent implementations, and intervals that cover."""

import math

import numpy as np
import pytest
from scipy import stats

from clinicalbert_jax.audit import epsilon, exposure, membership

pytestmark = pytest.mark.fast


def one_each(*scores: np.ndarray) -> list[np.ndarray]:
    return [np.arange(len(one)) for one in scores]


def test_auc_and_rates_are_those_of_scikit_learn() -> None:
    metrics = pytest.importorskip("sklearn.metrics")
    random = np.random.default_rng(0)
    for _ in range(1000):
        members = np.round(random.normal(random.uniform(0, 1), 1, random.integers(40, 90)), random.integers(0, 3))
        others = np.round(random.normal(0, 1, random.integers(100, 160)), 1)
        truth = np.repeat([1, 0], [len(members), len(others)])
        scores = np.concatenate([members, others])
        found = membership.auc(members, others, *one_each(members, others)).value
        assert found == pytest.approx(metrics.roc_auc_score(truth, scores))
        false, true, _ = metrics.roc_curve(truth, scores, drop_intermediate=False)
        ours = membership.roc(members, others)
        np.testing.assert_allclose(ours[0], false)
        np.testing.assert_allclose(ours[1], true)
        rate = membership._rate(members, others, 0.1)
        assert rate == pytest.approx(true[false <= 0.1 + 1e-12].max())


def test_a_rate_is_shown_only_where_it_can_be_measured() -> None:
    random = np.random.default_rng(0)
    members, others = random.normal(1, 1, 50), random.normal(0, 1, 1000)
    found = membership.true_positive_rate(members, others, *one_each(members, others), alpha=0.01)
    assert found is not None
    assert found.low <= found.value <= found.high
    assert membership.true_positive_rate(members, others[:-1], *one_each(members, others[:-1]), alpha=0.01) is None
    assert membership.true_positive_rate(members, others, *one_each(members, others), alpha=0.001) is None


def test_the_interval_of_a_rate_is_over_patients() -> None:
    """Of patients, each of whom counts twice, it is that of the patients counted once."""
    random = np.random.default_rng(0)
    members, others = random.normal(2, 1, 60), random.normal(0, 1, 200)
    once = membership.true_positive_rate(members, others, *one_each(members, others), alpha=0.1)
    twice = membership.true_positive_rate(
        *(np.repeat(one, 2) for one in (members, others, np.arange(60), np.arange(200))), alpha=0.1
    )
    assert once == twice
    assert once is not None
    assert once.low < once.value - 0.05 < once.value + 0.05 < once.high


def held(num_patients: int, units: int, simulations: int, shift: float, seed: int) -> float:
    """How often the interval holds the true AUC, of patients whose units are alike."""
    random = np.random.default_rng(seed)
    true = stats.norm.cdf(shift / math.sqrt(2 * (1 + 0.5**2)))
    inside = 0
    for _ in range(simulations):
        sides = []
        for mean in (shift, 0.0):
            patients = np.repeat(np.arange(num_patients), random.integers(1, units + 1, num_patients))
            sides.append(
                (mean + random.normal(0, 1, num_patients)[patients] + random.normal(0, 0.5, len(patients)), patients)
            )
        (members, of_members), (others, of_others) = sides
        found = membership.auc(members, others, of_members, of_others)
        inside += found.low <= true <= found.high
    return inside / simulations


@pytest.mark.parametrize(("num_patients", "units"), [(30, 1), (60, 5)])
@pytest.mark.parametrize("shift", [0.0, 1.0])
def test_intervals_hold_the_true_auc(num_patients: int, units: int, shift: float) -> None:
    assert 0.92 <= held(num_patients, units, 400, shift, seed=1) <= 0.98


def test_units_of_one_patient_do_not_count_as_many() -> None:
    random = np.random.default_rng(0)
    members, others = random.normal(0.5, 1, 50), random.normal(0, 1, 50)
    once = membership.auc(members, others, *one_each(members, others))
    nine = membership.auc(
        np.repeat(members, 9), np.repeat(others, 9), np.repeat(np.arange(50), 9), np.repeat(np.arange(50), 9)
    )
    assert nine == pytest.approx(once)


def test_scores_without_an_error_leave_room_for_one() -> None:
    found = membership.auc(np.ones(60), np.zeros(60), np.arange(60), np.arange(60))
    assert found == (1.0, 0.95, 1.0)


def test_the_visible_auc_is_seen_four_times_out_of_five() -> None:
    random = np.random.default_rng(3)
    visible = membership.smallest_visible_auc(60, 60)
    shift = stats.norm.ppf(visible) * math.sqrt(2)
    seen = 0
    for _ in range(300):
        members, others = random.normal(shift, 1, 60), random.normal(0, 1, 60)
        seen += membership.auc(members, others, *one_each(members, others)).low > 0.5
    assert 0.73 <= seen / 300 <= 0.88


def gaussian_sigma(of_epsilon: float, delta: float) -> float:
    """The noise of a Gaussian mechanism of sensitivity 1 (Balle and Wang 2018, theorem 8), by bisection."""
    low, high = 0.05, 50.0
    for _ in range(100):
        sigma = (low + high) / 2
        a, b = 0.5 / sigma, of_epsilon * sigma
        spent = stats.norm.cdf(a - b) - math.exp(of_epsilon) * stats.norm.cdf(-a - b)
        low, high = (sigma, high) if spent > delta else (low, sigma)
    return high


def bounds_of_gaussian(of_epsilon: float, runs: int, seed: int = 0) -> np.ndarray:
    random = np.random.default_rng(seed)
    sigma = gaussian_sigma(of_epsilon, 1e-5)
    found = []
    for _ in range(runs):
        planted = random.random(1000) < 0.5
        bound = epsilon.lower_bound(planted + random.normal(0, sigma, 1000), planted, 1e-5)
        assert bound.guesses == 100, "fixed before the scores are seen"
        found.append(bound.epsilon)
    return np.array(found)


@pytest.mark.parametrize(("of_epsilon", "least"), [(1.0, 0.1), (4.0, 1.4), (8.0, 2.4)])
def test_the_bound_holds_and_says_something(of_epsilon: float, least: float) -> None:
    found = bounds_of_gaussian(of_epsilon, 60)
    assert (found > of_epsilon).mean() <= 0.065
    assert found.mean() >= least


@pytest.mark.soak
@pytest.mark.parametrize(("of_epsilon", "least"), [(1.0, 0.0), (2.0, 0.0), (4.0, 1.4), (8.0, 2.4)])
def test_the_bound_over_a_thousand_runs(of_epsilon: float, least: float) -> None:
    found = bounds_of_gaussian(of_epsilon, 1000, seed=1)
    print(f"epsilon {of_epsilon:g}: mean bound {found.mean():.2f}, above it in {(found > of_epsilon).mean():.2%}")
    assert (found > of_epsilon).mean() <= 0.065
    assert found.mean() >= least


def test_the_p_value_is_that_of_the_paper() -> None:
    """Against the theorem summed term by term."""
    random = np.random.default_rng(0)
    for _ in range(1000):
        canaries = int(random.integers(20, 200))
        guesses = int(random.integers(1, canaries + 1))
        right, eps, delta = (
            int(random.integers(0, guesses + 1)),
            float(random.uniform(0, 5)),
            10.0 ** -random.integers(3, 7),
        )
        chance = math.exp(eps) / (1 + math.exp(eps))
        mass = [math.comb(guesses, k) * chance**k * (1 - chance) ** (guesses - k) for k in range(guesses + 1)]
        worst = max([sum(mass[right - i : right]) / i for i in range(1, right + 1)], default=0.0)
        expected = min(1.0, sum(mass[right:]) + 2 * canaries * delta * worst)
        assert epsilon.p_value(canaries, guesses, right, eps, delta) == pytest.approx(expected, abs=1e-9)


def test_without_delta_the_bound_is_that_of_clopper_and_pearson() -> None:
    for guesses, right in ((20, 19), (100, 80), (50, 50)):
        low = stats.binomtest(right, guesses, alternative="greater").proportion_ci(0.95).low
        assert epsilon.smallest_epsilon(1000, guesses, right, 0.0) == pytest.approx(math.log(low / (1 - low)), abs=1e-6)
    assert epsilon.smallest_epsilon(1000, 100, 50, 1e-5) == 0.0


def test_exposure_is_the_rank_by_enumeration() -> None:
    random = np.random.default_rng(0)
    scores, others = random.normal(size=1000), random.normal(size=(1000, 127))
    found = exposure.exposures(scores, others)
    for score, alternatives, bits in zip(scores, others, found.bits_C, strict=True):
        rank = sorted([score, *alternatives], reverse=True).index(score) + 1
        assert bits == pytest.approx(math.log2(128) - math.log2(rank))
    assert found.ceiling == 7
    never = exposure.exposures(random.normal(size=5000), random.normal(size=(5000, 255))).bits_C
    assert never.mean() == pytest.approx(1 / math.log(2), abs=0.1)  # the mean of an exponential of log2


def test_equal_scores_share_their_ranks() -> None:
    """Of seven alternatives three are as likely as the secret and two more likely: it is between rank 3 and rank 6."""
    found = exposure.exposures(np.array([1.0]), np.array([[1.0, 1.0, 1.0, 2.0, 2.0, 0.0, 0.0]]))
    assert found.bits_C[0] == pytest.approx(3 - math.log2(4.5))


def test_the_visible_exposure_is_seen_four_times_out_of_five() -> None:
    """By the difference of the means, of secrets nobody has seen and of such with more bits."""
    random, seen = np.random.default_rng(0), 0
    planted, left_out = 30, 90
    shift = exposure.smallest_visible(planted, left_out)
    for _ in range(2000):
        bits = [random.exponential(1 / math.log(2), count) for count in (planted, left_out)]
        error = math.sqrt(1 / planted + 1 / left_out) / math.log(2)
        seen += bits[0].mean() + shift - bits[1].mean() > 1.96 * error
    assert 0.77 <= seen / 2000 <= 0.83
