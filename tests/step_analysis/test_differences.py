import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import xlogy
from scipy.stats import binom, multinomial

from step_analysis.differences import (
    PairedCounts,
    miettinen_nurminen,
    newcombe,
    newcombe_paired,
    restricted_discordance,
    restricted_rates,
    tango,
)

_confidences = st.floats(0.5, 0.99)
_arms = st.integers(1, 40).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n)))
_paired = st.builds(
    PairedCounts,
    both=st.integers(0, 15),
    only0=st.integers(0, 15),
    only1=st.integers(0, 15),
    neither=st.integers(0, 15),
)


def test_published_examples():
    # Newcombe, Statistics in Medicine 17 (1998) 873-890, table II: 56/70 - 48/80, 9/10 - 3/10.
    assert newcombe(48, 80, 56, 70) == pytest.approx((0.0524, 0.3339), abs=5e-5)
    assert miettinen_nurminen(48, 80, 56, 70) == pytest.approx((0.0528, 0.3382), abs=5e-5)
    assert newcombe(3, 10, 9, 10) == pytest.approx((0.1705, 0.8090), abs=5e-5)
    assert miettinen_nurminen(3, 10, 9, 10) == pytest.approx((0.1700, 0.8406), abs=5e-5)


@pytest.mark.parametrize("interval", [newcombe, miettinen_nurminen])
@given(arm0=_arms, arm1=_arms, confidence=_confidences)
def test_unpaired_intervals_follow_the_symmetries(interval, arm0, arm1, confidence):
    (x0, n0), (x1, n1) = arm0, arm1
    lower, upper = interval(x0, n0, x1, n1, confidence)
    assert -1.0 <= lower <= x1 / n1 - x0 / n0 <= upper <= 1.0
    mirrored = pytest.approx((-upper, -lower), abs=1e-9)
    assert interval(x1, n1, x0, n0, confidence) == mirrored
    assert interval(n0 - x0, n0, n1 - x1, n1, confidence) == mirrored


@pytest.mark.parametrize("interval", [newcombe_paired, tango])
@given(counts=_paired, confidence=_confidences)
def test_paired_intervals_follow_the_symmetries(interval, counts, confidence):
    lower, upper = interval(counts, confidence)
    if counts.num_episodes == 0:
        assert (lower, upper) == (-1.0, 1.0)
        return
    difference = (counts.only1 - counts.only0) / counts.num_episodes
    assert -1.0 <= lower <= difference <= upper <= 1.0
    swapped_arms = PairedCounts(
        both=counts.both, only0=counts.only1, only1=counts.only0, neither=counts.neither
    )
    swapped_outcomes = PairedCounts(
        both=counts.neither, only0=counts.only1, only1=counts.only0, neither=counts.both
    )
    for swapped in (swapped_arms, swapped_outcomes):
        assert interval(swapped, confidence) == pytest.approx((-upper, -lower), abs=1e-9)


@given(arm0=_arms, arm1=_arms, difference=st.floats(-0.99, 0.99))
def test_no_restricted_rates_are_likelier_than_the_closed_form(arm0, arm1, difference):
    (x0, n0), (x1, n1) = arm0, arm1

    def log_likelihood(p0: np.ndarray, p1: np.ndarray) -> np.ndarray:
        with np.errstate(divide="ignore"):
            return xlogy(x0, p0) + xlogy(n0 - x0, 1 - p0) + xlogy(x1, p1) + xlogy(n1 - x1, 1 - p1)

    p0, p1 = restricted_rates(x0, n0, x1, n1, difference)
    assert p1 - p0 == pytest.approx(difference, abs=1e-12)
    others = np.linspace(max(difference, 0.0), min(1.0 + difference, 1.0), 501)[1:-1]
    assert log_likelihood(others - difference, others).max() <= log_likelihood(p0, p1) + 1e-8


@given(counts=_paired, difference=st.floats(-0.99, 0.99))
def test_no_restricted_discordance_is_likelier_than_the_closed_form(counts, difference):
    n = counts.num_episodes
    if n == 0:
        return

    def log_likelihood(only0: np.ndarray) -> np.ndarray:
        alike = np.maximum(1.0 - 2.0 * only0 - difference, 0.0)
        with np.errstate(divide="ignore"):
            return (
                xlogy(counts.only0, only0)
                + xlogy(counts.only1, np.maximum(only0 + difference, 0.0))
                + xlogy(counts.both + counts.neither, alike)
            )

    only0, only1 = restricted_discordance(counts.only0, counts.only1, n, difference)
    assert only1 - only0 == pytest.approx(difference, abs=1e-12)
    others = np.linspace(max(-difference, 0.0), (1.0 - difference) / 2.0, 501)[1:-1]
    assert log_likelihood(others).max() <= log_likelihood(only0) + 1e-8


@pytest.mark.parametrize("interval", [newcombe, miettinen_nurminen])
def test_unpaired_coverage_by_exact_enumeration(interval):
    n, confidence = 14, 0.95
    k = np.arange(n + 1)
    bounds = np.array([[interval(x, n, y, n, confidence) for y in k] for x in k])
    coverages = []
    for p0 in np.linspace(0.05, 0.95, 10):
        for p1 in np.linspace(0.05, 0.95, 10):
            inside = (bounds[..., 0] <= p1 - p0) & (p1 - p0 <= bounds[..., 1])
            law = np.outer(binom.pmf(k, n, p0), binom.pmf(k, n, p1))
            coverages.append(law[inside].sum())
    # Both aim at the mean: Newcombe reports minima of .867 and .917 over all n and rates.
    assert np.mean(coverages) == pytest.approx(confidence, abs=0.01)
    assert min(coverages) > 0.9


@pytest.mark.parametrize("interval", [newcombe_paired, tango])
def test_paired_coverage_by_exact_enumeration(interval):
    n, confidence = 12, 0.9
    counts = [
        (a, b, c, n - a - b - c)
        for a in range(n + 1)
        for b in range(n + 1 - a)
        for c in range(n + 1 - a - b)
    ]
    bounds = np.array(
        [
            interval(PairedCounts(both=a, only0=b, only1=c, neither=d), confidence)
            for a, b, c, d in counts
        ]
    )
    coverages = []
    for law in ([0.4, 0.1, 0.2, 0.3], [0.25] * 4, [0.1, 0.3, 0.5, 0.1], [0.7, 0.05, 0.1, 0.15]):
        chances = multinomial.pmf(counts, n, law)
        inside = (bounds[:, 0] <= law[2] - law[1]) & (law[2] - law[1] <= bounds[:, 1])
        coverages.append(chances[inside].sum())
    assert np.mean(coverages) == pytest.approx(confidence, abs=0.03)
    assert min(coverages) > 0.85


@given(only0=st.integers(0, 12), only1=st.integers(0, 12), alike=st.integers(0, 20))
def test_tango_excludes_zero_exactly_when_mcnemar_s_score_is_large(only0, only1, alike):
    counts = PairedCounts(both=alike, only0=only0, only1=only1, neither=0)
    lower, upper = tango(counts, 0.95)
    discordant = only0 + only1
    score = (only1 - only0) / max(discordant, 1) ** 0.5
    assert (lower > 1e-12) == (score > 1.959964)
    assert (upper < -1e-12) == (score < -1.959964)


def test_impossible_counts_are_refused():
    with pytest.raises(ValueError, match="must lie between 0 and the number of episodes"):
        newcombe(3, 2, 0, 2)
    with pytest.raises(ValueError, match="must lie between 0 and the number of episodes"):
        miettinen_nurminen(0, 2, -1, 2)
    with pytest.raises(ValueError, match="only0 must be at least 0, got -1"):
        PairedCounts(both=1, only0=-1, only1=0, neither=0)
    with pytest.raises(ValueError, match="confidence must lie strictly between 0 and 1"):
        tango(PairedCounts(both=1, only0=1, only1=1, neither=1), 1.0)
