from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from step_analysis.fixed_sample.mcnemar import McNemarTest
from step_analysis.sequential.lai import LaiTest
from step_analysis.sequential.paired import (
    SequentialMcNemarTest,
    paired_boundary,
    paired_characteristics,
)

_pairs = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=60)


@pytest.mark.parametrize("n_max", [1, 2, 5, 20, 60, 200])
@pytest.mark.parametrize("alpha", [0.05, 0.025, 0.05 / 66])
def test_the_exact_size_is_at_most_alpha_at_every_discordance(n_max, alpha):
    boundary = paired_boundary(n_max, alpha)
    assert boundary.spent.max() <= alpha
    assert boundary.largest_size() <= alpha
    for discordance in (0.02, 0.1, 0.5, 0.9, 1.0):
        followed = paired_characteristics(boundary, discordance / 2.0, discordance / 2.0)
        assert followed.arm1_better == pytest.approx(boundary.size(discordance), abs=1e-12)
        assert followed.arm0_better == pytest.approx(followed.arm1_better, abs=1e-12)
    if n_max == 200 and alpha > 0.01:
        assert boundary.largest_size() > 0.99 * alpha


def test_characteristics_by_enumeration_of_all_sequences():
    n_max, only0, only1 = 7, 0.2, 0.45
    test = SequentialMcNemarTest(n_max, 0.2)
    chances = {0: 1.0 - only0 - only1, -1: only0, 1: only1}
    found = {1: 0.0, -1: 0.0, 0: 0.0}
    time = 0.0
    for sequence in product(chances, repeat=n_max):
        chance = np.prod([chances[d] for d in sequence])
        verdict = test.run([int(d < 0) for d in sequence], [int(d > 0) for d in sequence])
        found[verdict.decision] += chance
        time += chance * verdict.time
    exact = paired_characteristics(test.boundary, only0, only1)
    assert found[1] == pytest.approx(exact.arm1_better)
    assert found[-1] == pytest.approx(exact.arm0_better)
    assert time == pytest.approx(exact.expected_time)
    assert found[1] > 0.2


@pytest.mark.parametrize("n_max", [30, 120])
def test_more_evidence_never_stops_less_and_the_worst_coin_is_fair(n_max):
    boundary = paired_boundary(n_max, 0.05)
    # With one pair turned in favour of arm 1, from alike or from arm 0's, a verdict for it stands.
    m = np.arange(n_max + 1)
    can_stop = np.tril(boundary.stop_lead <= m)
    needed = boundary.stop_lead.astype(int)
    from_alike = can_stop[:, :-1] & (m[:-1] < m[:, None])
    assert (needed[:, 1:] <= needed[:, :-1] + 1)[from_alike].all()
    from_arm0 = can_stop[:, 1:] & (needed[:, 1:] < m[1:])
    assert (needed[:, :-1] <= needed[:, 1:] + 1)[from_arm0].all()
    errors = [
        paired_characteristics(boundary, d * (1 - share), d * share).arm1_better
        for d in (0.1, 0.4, 1.0)
        for share in (0.2, 0.35, 0.5)
    ]
    for worse, even, fair in zip(errors[::3], errors[1::3], errors[2::3], strict=True):
        assert worse < even < fair <= 0.05


def test_a_boundary_for_independent_arms_does_not_hold_for_pairs():
    """Pairs that always differ: Lai's test, solved for independent arms, exceeds its alpha."""
    rng = np.random.default_rng(2)
    n_max, alpha, runs = 100, 0.05, 3000
    lai, paired = LaiTest(n_max, alpha), SequentialMcNemarTest(n_max, alpha)
    wrong = {"lai": 0, "paired": 0}
    for _ in range(runs):
        y = rng.integers(0, 2, n_max)
        wrong["lai"] += lai.run(1 - y, y).decision == 1
        wrong["paired"] += paired.run(1 - y, y).decision == 1
    deviation = (alpha * (1 - alpha) / runs) ** 0.5
    assert wrong["lai"] / runs > alpha + deviation
    assert wrong["paired"] / runs < alpha + 3 * deviation
    assert paired.boundary.size(1.0) <= alpha


def test_it_costs_little_power_against_looking_once_and_saves_episodes():
    n_max, alpha = 200, 0.025
    boundary, once = paired_boundary(n_max, alpha), McNemarTest(n_max, alpha)
    found = paired_characteristics(boundary, 0.05, 0.17)
    rng = np.random.default_rng(3)
    decisions = []
    for _ in range(2000):
        d = rng.choice([0, 1, -1], n_max, p=[0.78, 0.17, 0.05])
        decisions.append(once.run((d < 0).astype(int), (d > 0).astype(int)).decision)
    assert found.arm1_better > np.mean(np.array(decisions) == 1) - 0.06
    assert found.expected_time < 0.65 * n_max


@given(pairs=_pairs)
@settings(max_examples=60)
def test_swapping_arms_or_outcomes_mirrors_the_verdict(pairs):
    test = SequentialMcNemarTest(60, 0.05)
    x, y = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    verdict = test.run(x, y)
    for mirrored in (test.run(y, x), test.run(1 - x, 1 - y)):
        assert (mirrored.decision, mirrored.time) == (-verdict.decision, verdict.time)


@given(pairs=_pairs)
def test_a_verdict_stands_whatever_comes_after_and_the_leads_show_it(pairs):
    test = SequentialMcNemarTest(60, 0.05)
    x, y = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    verdict = test.run(x, y)
    lead = np.cumsum(y) - np.cumsum(x)
    for_arm1, for_arm0 = test.leads_to_stop(x, y)
    reached = np.flatnonzero((lead >= for_arm1) | (-lead >= for_arm0))
    assert (verdict.decision != 0) == (len(reached) > 0)
    if verdict.decision:
        assert verdict.time == reached[0] + 1
        assert test.run(x[: verdict.time], y[: verdict.time]) == verdict


def test_the_lead_that_decides_is_told_before_as_many_pairs_differ():
    """A study that was decided after 13 episodes, each difference for one arm."""
    test = SequentialMcNemarTest(200, 0.025)
    x = np.array([0, 1, 0, 0, 0, 1, 0, 0, 1, 0, 0, 0, 0])
    y = np.ones(13, int)
    for_arm1, for_arm0 = test.leads_to_stop(x, y)
    assert test.run(x, y).decision == 1
    told = np.isfinite(for_arm1)
    assert 2 <= told.sum() < 13
    lead = np.cumsum(y - x)
    at = np.flatnonzero(told & (lead < for_arm1))
    assert len(at) >= 1
    # All pairs that differ for one arm, as many as it takes: the last of them decides.
    for t in (at + 1).tolist():
        fewest = int(for_arm1[t - 1])
        alone = np.r_[np.zeros(t - fewest, int), np.ones(fewest, int)]
        assert test.run(np.zeros(t, int), alone).decision == 1
        fewer = np.r_[np.zeros(t - fewest + 1, int), np.ones(fewest - 1, int)]
        assert test.run(np.zeros(t, int), fewer).decision == 0
    assert (for_arm0[told] == for_arm1[told]).all()


def test_impossible_probabilities_are_refused():
    with pytest.raises(ValueError, match="add up to at most 1"):
        paired_characteristics(paired_boundary(5, 0.05), 0.6, 0.6)


def test_a_budget_beyond_memory_is_refused():
    with pytest.raises(ValueError, match="takes at most 10000 pairs, got 20000"):
        SequentialMcNemarTest(20_000, 0.025)
