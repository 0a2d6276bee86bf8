from itertools import product

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.methods import TEST_NAMES, make_test
from step_analysis.planning.characteristics import TrueRates, characteristics, largest_size
from step_analysis.planning.savi_simulation import savi_decisions
from step_analysis.sequential.savi import SaviTest


@pytest.mark.parametrize("method", TEST_NAMES)
@pytest.mark.parametrize(("p0", "p1"), [(0.2, 0.8), (0.9, 0.4), (0.5, 0.5)])
def test_they_are_those_of_the_test_on_all_sequences(method, p0, p1):
    n_max, alpha = 5, 0.24
    test = make_test(method, n_max, alpha)
    found = {1: 0.0, -1: 0.0, 0: 0.0}
    time = 0.0
    for x in product((0, 1), repeat=n_max):
        for y in product((0, 1), repeat=n_max):
            chance = np.prod([p0 if v else 1 - p0 for v in x] + [p1 if v else 1 - p1 for v in y])
            verdict = test.run(x, y)
            found[verdict.decision] += chance
            time += chance * verdict.time
    claimed = characteristics(method, n_max, alpha, TrueRates(p0=p0, p1=p1))
    assert claimed.arm1_better == pytest.approx(found[1], abs=1e-10)
    assert claimed.arm0_better == pytest.approx(found[-1], abs=1e-10)
    assert claimed.expected_n == pytest.approx(time)
    assert claimed.standard_error is None
    if p0 == p1:
        assert found[1] <= largest_size(method, n_max, alpha) + 1e-12


@pytest.mark.parametrize(
    ("method", "n_max", "expected", "tolerance"),
    [
        ("barnard", 50, [(0.6372, 50.0), (0.3956, 50.0)], 1e-4),
        ("barnard", 100, [(0.8945, 100.0), (0.6189, 100.0)], 1e-4),
        ("savi", 50, [(0.303, 42.4), (0.132, 47.3)], 0.007),
    ],
)
def test_they_are_those_of_the_reference(method, n_max, expected, tolerance):
    # Power and episodes at alpha 0.05 a side: exact for Barnard, 100,000 simulated runs for SAVI.
    for (p0, p1), (power, time) in zip([(0.3, 0.5), (0.8, 0.9)], expected, strict=True):
        found = characteristics(method, n_max, 0.05, TrueRates(p0=p0, p1=p1))
        assert found.arm1_better == pytest.approx(power, abs=tolerance)
        assert found.expected_n == pytest.approx(time, abs=0.2)
        assert (found.standard_error is None) == (method == "barnard")


@pytest.mark.parametrize("method", TEST_NAMES)
@pytest.mark.parametrize("alpha", [0.025, 0.05 / 28])
def test_no_size_exceeds_alpha(method, alpha):
    assert 0.0 < largest_size(method, 60, alpha) <= alpha


@given(
    p0=st.floats(0.0, 1.0),
    p1=st.floats(0.0, 1.0),
    method=st.sampled_from(["step", "lai", "barnard", "fisher", "mcnemar", "paired"]),
)
def test_swapping_arms_or_outcomes_swaps_the_verdicts(p0, p1, method):
    found = characteristics(method, 20, 0.05, TrueRates(p0=p0, p1=p1))
    for rates in (TrueRates(p0=p1, p1=p0), TrueRates(p0=1.0 - p0, p1=1.0 - p1)):
        mirrored = characteristics(method, 20, 0.05, rates)
        assert mirrored.arm0_better == pytest.approx(found.arm1_better, abs=1e-9)
        assert mirrored.arm1_better == pytest.approx(found.arm0_better, abs=1e-9)
        assert mirrored.expected_n == pytest.approx(found.expected_n, abs=1e-7)


@pytest.mark.parametrize("method", ["mcnemar", "paired"])
def test_shared_seeds_that_agree_help_the_paired_tests(method):
    powers = [
        characteristics(
            method, 80, 0.025, TrueRates(p0=0.5, p1=0.65, discordance=discordance)
        ).arm1_better
        for discordance in (0.15, 0.3, None, 0.7)
    ]
    assert powers == sorted(powers, reverse=True)
    assert powers[0] > 2 * powers[2]


def test_simulated_runs_are_decided_as_the_test_decides():
    rng = np.random.default_rng(4)
    x, y = rng.random((40, 60)) < 0.3, rng.random((40, 60)) < 0.6
    decisions, times = savi_decisions(x, y, 0.025)
    test = SaviTest(60, 0.025)
    for i in range(40):
        verdict = test.run(x[i].astype(int), y[i].astype(int))
        assert (verdict.decision, verdict.time) == (decisions[i], times[i])


@pytest.mark.parametrize(
    ("rates", "complaint"),
    [
        ({"p0": -0.1, "p1": 0.5}, "p0 must lie within \\[0, 1\\], got -0.1"),
        ({"p0": 0.1, "p1": float("nan")}, "p1 must lie within"),
        ({"p0": 0.3, "p1": 0.5, "discordance": 0.1}, "discordance must lie within \\[0.2, 0.8\\]"),
        ({"p0": 0.3, "p1": 0.5, "discordance": 0.9}, "discordance must lie within \\[0.2, 0.8\\]"),
    ],
)
def test_impossible_rates_are_refused(rates, complaint):
    with pytest.raises(ValueError, match=complaint):
        TrueRates(**rates)
