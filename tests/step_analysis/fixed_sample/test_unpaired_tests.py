from functools import cache

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import barnard_exact, binom, fisher_exact

from step_analysis.fixed_sample.barnard import barnard_p_values, barnard_region, barnard_test
from step_analysis.fixed_sample.fisher import fisher_p_values, fisher_region, fisher_test
from step_analysis.fixed_sample.region_size import RegionSizes

# First rejecting y for each x at alpha 0.05 a side and 50 episodes, from scipy's barnard_exact.
BARNARD_50 = [3, 6, 7, 9, 10, 12, 13, 14, 16, 17, 18, 19, 20, 21, 23, 24, 25, 26, 27, 28, 29, 30]
BARNARD_50 += [31, 32, 33, 34, 35, 36, 37, 37, 38, 39, 40, 41, 42, 43, 43, 44, 45, 46, 46, 47]
BARNARD_50 += [48, 48, 49, 50, 50, 50, 51, 51, 51]


def _scipy_barnard(x: int, y: int, n: int) -> float:
    """Of a table and its mirror image: scipy's rounding may tell apart what is equal."""
    return max(_scipy_barnard_of_one(x, y, n), _scipy_barnard_of_one(n - y, n - x, n))


@cache
def _scipy_barnard_of_one(x: int, y: int, n: int) -> float:
    """Asked for again as another's mirror image, and at each level."""
    return barnard_exact([[x, y], [n - x, n - y]], alternative="less", n=64).pvalue


def test_barnard_s_region_is_that_of_scipy():
    assert barnard_region(50, 0.05).first_y.tolist() == BARNARD_50


@given(data=st.data(), n=st.integers(1, 16))
def test_barnard_s_p_values_are_those_of_scipy(data, n):
    x, y = (data.draw(st.integers(0, n)) for _ in range(2))
    mine = float(barnard_p_values(x, y, n))
    assert mine == pytest.approx(_scipy_barnard(x, y, n) if y > x else 1.0, abs=2e-6)


@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.05 / 3])
def test_barnard_s_decisions_are_those_of_scipy(alpha):
    n = 11
    region = barnard_region(n, alpha)
    for x in range(n + 1):
        for y in range(x + 1, n + 1):
            rejected = _scipy_barnard(x, y, n) <= alpha
            assert (y >= region.first_y[x]) == rejected, (x, y)


@given(data=st.data(), n=st.integers(1, 60))
def test_fisher_s_p_values_are_those_of_scipy(data, n):
    x, y = (data.draw(st.integers(0, n)) for _ in range(2))
    expected = fisher_exact([[x, y], [n - x, n - y]], alternative="less").pvalue
    assert float(fisher_p_values(x, y, n)) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("make_region", [barnard_region, fisher_region])
@pytest.mark.parametrize("n", [1, 4, 25, 90])
@pytest.mark.parametrize("alpha", [0.05, 0.05 / 66])
def test_the_exact_size_is_at_most_alpha(make_region, n, alpha):
    region = make_region(n, alpha)
    rates = np.concatenate([np.linspace(0.001, 0.999, 333), np.geomspace(1e-5, 1e-3, 20)])
    k = np.arange(n + 1)
    sizes = [binom.pmf(k, n, p) @ binom.sf(region.first_y - 1, n, p) for p in rates]
    claimed = RegionSizes(n).largest(region.first_y)
    assert max(sizes) <= claimed * (1 + 1e-9) + 1e-15
    assert claimed <= alpha
    assert claimed == pytest.approx(max(sizes), rel=0.01)


def test_barnard_rejects_whatever_fisher_does_here():
    for n in (10, 40, 100):
        assert (barnard_region(n, 0.025).first_y <= fisher_region(n, 0.025).first_y).all()


@pytest.mark.parametrize("make_test", [barnard_test, fisher_test])
@given(data=st.data(), n=st.integers(1, 30))
def test_swapping_arms_or_outcomes_mirrors_the_verdict(make_test, data, n):
    test = make_test(n, 0.1)
    x, y = (np.array(data.draw(st.lists(st.integers(0, 1), min_size=n, max_size=n))) for _ in "xy")
    verdict = test.run(x, y)
    assert verdict.time == n
    assert test.run(y, x).decision == -verdict.decision
    assert test.run(1 - x, 1 - y).decision == -verdict.decision
    assert test.region.decisions(x.sum(), y.sum()) == verdict.decision


def test_they_wait_for_all_episodes():
    for test in (barnard_test(12, 0.025), fisher_test(12, 0.025)):
        assert test.run([0] * 11, [1] * 11).decision == 0
        assert test.run([0] * 12, [1] * 12).decision == 1
        with pytest.raises(ValueError, match="13 episodes are more than the 12"):
            test.run([0] * 13, [1] * 13)


@pytest.mark.parametrize("p_values", [barnard_p_values, fisher_p_values])
def test_impossible_counts_are_refused(p_values):
    with pytest.raises(ValueError, match="counts must lie between 0 and 5"):
        p_values(2, 6, 5)


@pytest.mark.parametrize("make_test", [barnard_test, fisher_test])
def test_more_episodes_than_memory_holds_are_refused(make_test):
    with pytest.raises(ValueError, match="take at most 5000 episodes of each arm, got 9000"):
        make_test(9000, 0.025)
