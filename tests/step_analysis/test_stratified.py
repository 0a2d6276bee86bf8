import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from step_analysis.differences import newcombe
from step_analysis.intervals import wilson
from step_analysis.stratified import StratumCounts, mean_difference, mean_rate

_strata = st.integers(1, 30).flatmap(
    lambda n: st.builds(StratumCounts, successes=st.integers(0, n), num_episodes=st.just(n))
)


@given(stratum=_strata, other=_strata)
def test_one_task_gives_wilson_and_newcombe(stratum, other):
    counts = stratum.successes, stratum.num_episodes
    assert mean_rate([stratum], 0.9).interval == pytest.approx(wilson(*counts, 0.9))
    difference = mean_difference([stratum], [other], 0.9)
    expected = newcombe(*counts, other.successes, other.num_episodes, 0.9)
    assert difference.interval == pytest.approx(expected)


@given(strata=st.lists(_strata, min_size=1, max_size=6), data=st.data())
def test_the_order_of_tasks_and_mirroring(strata, data):
    estimate = mean_rate(strata)
    assert estimate.interval.lower <= estimate.value <= estimate.interval.upper
    shuffled = data.draw(st.permutations(strata))
    assert mean_rate(shuffled).interval == pytest.approx(estimate.interval)
    failures = [
        StratumCounts(successes=s.num_episodes - s.successes, num_episodes=s.num_episodes)
        for s in strata
    ]
    lower, upper = estimate.interval
    assert mean_rate(failures).interval == pytest.approx((1.0 - upper, 1.0 - lower))
    assert mean_difference(strata, strata).value == 0.0


def test_tasks_weigh_the_same_whatever_their_episodes():
    many = StratumCounts(successes=90, num_episodes=100)
    few = StratumCounts(successes=1, num_episodes=10)
    assert mean_rate([many, few]).value == pytest.approx(0.5)


def test_coverage_by_exact_enumeration_over_two_unequal_tasks():
    confidence, sizes, rates = 0.95, (15, 25), (0.9, 0.3)
    laws = [binom.pmf(np.arange(n + 1), n, p) for n, p in zip(sizes, rates, strict=True)]
    truth, covered = sum(rates) / 2.0, 0.0
    for a in range(sizes[0] + 1):
        for b in range(sizes[1] + 1):
            strata = [
                StratumCounts(successes=s, num_episodes=n)
                for s, n in zip((a, b), sizes, strict=True)
            ]
            lower, upper = mean_rate(strata, confidence).interval
            if lower <= truth <= upper:
                covered += laws[0][a] * laws[1][b]
    assert covered == pytest.approx(confidence, abs=0.02)


def test_what_can_not_be_averaged_is_refused():
    with pytest.raises(ValueError, match="each task needs an episode"):
        StratumCounts(successes=0, num_episodes=0)
    with pytest.raises(ValueError, match="at least one task"):
        mean_rate([])
    one = [StratumCounts(successes=1, num_episodes=2)]
    with pytest.raises(ValueError, match="the same tasks expected for both policies, got 1 and 2"):
        mean_difference(one, one * 2)
