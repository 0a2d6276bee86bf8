import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.integrate import quad
from scipy.stats import binom

from step_analysis.intervals import BetaPosterior, clopper_pearson, jeffreys, wilson

_counts = st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
_confidences = st.sampled_from([0.5, 0.8, 0.9, 0.95, 0.99])


def test_the_released_rollouts_have_the_reference_intervals(reference):
    for task in reference("foundry_excerpt")["tasks"].values():
        for policy, outcomes in task["outcomes"].items():
            successes, n = outcomes.count("1"), len(outcomes)
            assert successes == task["successes"][policy]
            for confidence, key in ((0.9, "clopper_pearson_90"), (0.95, "clopper_pearson_95")):
                expected = pytest.approx(task[key][policy], abs=1e-10)
                assert clopper_pearson(successes, n, confidence) == expected


def test_published_wilson_and_clopper_pearson_examples():
    # Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, 15 of 148, 0 of 20, 1 of 29.
    expected = {
        (81, 263): ((0.2553, 0.3662), (0.2527, 0.3676)),
        (15, 148): ((0.0624, 0.1605), (0.0578, 0.1617)),
        (0, 20): ((0.0, 0.1611), (0.0, 0.1684)),
        (1, 29): ((0.0061, 0.1718), (0.0009, 0.1776)),
    }
    for (successes, n), (score, exact) in expected.items():
        assert wilson(successes, n, 0.95) == pytest.approx(score, abs=5e-5)
        assert clopper_pearson(successes, n, 0.95) == pytest.approx(exact, abs=5e-5)


@pytest.mark.parametrize("n", [1, 2, 5, 10, 23, 50])
@pytest.mark.parametrize("confidence", [0.8, 0.95])
def test_clopper_pearson_covers_every_rate_exactly_computed(n, confidence):
    rates = np.concatenate([np.linspace(0.0, 1.0, 401), np.geomspace(1e-6, 1e-3, 20)])
    successes = np.arange(n + 1)
    intervals = np.array([clopper_pearson(s, n, confidence) for s in successes])
    covered = (intervals[:, :1] <= rates) & (rates <= intervals[:, 1:])
    coverage = (binom.pmf(successes[:, None], n, rates) * covered).sum(axis=0)
    assert coverage.min() >= confidence - 1e-12
    assert coverage.min() < 1.0


def test_wilson_covers_on_average_about_what_it_says():
    n, confidence = 50, 0.95
    rates = np.linspace(0.005, 0.995, 199)
    successes = np.arange(n + 1)
    intervals = np.array([wilson(s, n, confidence) for s in successes])
    covered = (intervals[:, :1] <= rates) & (rates <= intervals[:, 1:])
    coverage = (binom.pmf(successes[:, None], n, rates) * covered).sum(axis=0)
    assert coverage.mean() == pytest.approx(confidence, abs=0.01)


@given(counts=_counts, confidence=_confidences)
def test_intervals_contain_the_rate_and_nest(counts, confidence):
    successes, n = counts
    for interval in (clopper_pearson, jeffreys, wilson):
        lower, upper = interval(successes, n, confidence)
        assert 0.0 <= lower <= successes / n <= upper <= 1.0
        wider = interval(successes, n, confidence + (1.0 - confidence) / 2.0)
        assert wider.lower <= lower
        assert upper <= wider.upper
        assert interval(n - successes, n, confidence) == pytest.approx((1 - upper, 1 - lower))


@given(counts=_counts, confidence=_confidences)
def test_one_success_more_moves_every_bound_up(counts, confidence):
    successes, n = counts
    if successes == n:
        return
    for interval in (clopper_pearson, jeffreys, wilson):
        before, after = interval(successes, n, confidence), interval(successes + 1, n, confidence)
        assert before.lower < after.lower
        assert before.upper < after.upper
    before, after = (BetaPosterior(successes=s, num_episodes=n) for s in (successes, successes + 1))
    assert before.mean < after.mean
    assert before.quantile(0.3) < after.quantile(0.3)


def test_jeffreys_covers_on_average_what_it_says_and_lies_within_the_exact_one():
    n, confidence = 40, 0.9
    rates = np.linspace(0.0025, 0.9975, 200)
    successes = np.arange(n + 1)
    intervals = np.array([jeffreys(s, n, confidence) for s in successes])
    covered = (intervals[:, :1] <= rates) & (rates <= intervals[:, 1:])
    coverage = (binom.pmf(successes[:, None], n, rates) * covered).sum(axis=0)
    assert coverage.mean() == pytest.approx(confidence, abs=0.01)
    exact = np.array([clopper_pearson(s, n, confidence) for s in successes])
    assert (exact[:, 0] <= intervals[:, 0]).all()
    assert (intervals[:, 1] <= exact[:, 1]).all()


def test_no_episode_says_nothing():
    assert clopper_pearson(0, 0) == wilson(0, 0) == jeffreys(0, 0) == (0.0, 1.0)
    assert BetaPosterior(successes=0, num_episodes=0).interval(0.9) == pytest.approx((0.05, 0.95))


@pytest.mark.parametrize(("successes", "n"), [(0, 10), (7, 10), (10, 10), (120, 200)])
def test_the_posterior_is_a_density_with_its_quantiles(successes, n):
    posterior = BetaPosterior(successes=successes, num_episodes=n)

    def density(p: float) -> float:
        return float(posterior.density(np.array(p)))

    assert quad(density, 0.0, 1.0, points=[posterior.mean])[0] == pytest.approx(1.0)
    mean = quad(lambda p: p * density(p), 0.0, 1.0, points=[posterior.mean])[0]
    assert mean == pytest.approx(posterior.mean)
    median = posterior.quantile(0.5)
    assert quad(density, 0.0, median)[0] == pytest.approx(0.5)
    assert posterior.interval(0.5).lower == pytest.approx(posterior.quantile(0.25))


@pytest.mark.parametrize("arguments", [(-1, 5, 0.9), (6, 5, 0.9), (1, 5, 0.0), (1, 5, 1.0)])
def test_impossible_counts_are_refused(arguments):
    with pytest.raises(ValueError, match="must lie"):
        clopper_pearson(*arguments)
