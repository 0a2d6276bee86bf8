import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.step import StepTest

_PAIRS = st.lists(st.tuples(st.integers(0, 1), st.integers(0, 1)), max_size=50)


@pytest.mark.parametrize("n_max", [1, 2, 3, 4, 5, 9])
def test_small_budgets_decide_when_they_can(n_max):
    verdict = StepTest(n_max, 0.05).run([0] * n_max, [1] * n_max)
    # Equal rates of 1/2 give an all-or-nothing difference of n episodes with chance 4**-n.
    assert verdict.decision == (1 if n_max >= 3 else 0)
    assert verdict.time <= n_max


@given(pairs=_PAIRS)
def test_swapping_arms_or_success_and_failure_mirrors_the_verdict(pairs):
    test = StepTest(50, 0.05)
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    verdict = test.run(x, y)
    for swapped in (test.run(y, x), test.run([1 - o for o in x], [1 - o for o in y])):
        assert (swapped.decision, swapped.time) == (-verdict.decision, verdict.time)


@given(pairs=_PAIRS)
def test_a_verdict_stands_whatever_comes_after(pairs):
    test = StepTest(50, 0.05)
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    verdict = test.run(x, y)
    assert test.run(x[: verdict.time], y[: verdict.time]) == verdict
    before = test.run(x[: max(verdict.time - 1, 0)], y[: max(verdict.time - 1, 0)])
    assert before.decision == 0 or verdict.decision == 0


@given(pairs=_PAIRS, episode=st.integers(0, 49))
def test_one_more_success_of_the_winner_never_takes_its_win(pairs, episode):
    test = StepTest(50, 0.05)
    x, y = [p[0] for p in pairs], [p[1] for p in pairs]
    if test.run(x, y).decision != 1 or episode >= len(pairs):
        return
    better = [*y[:episode], 1, *y[episode + 1 :]]
    worse = [*x[:episode], 0, *x[episode + 1 :]]
    assert test.run(x, better).decision == 1
    assert test.run(worse, y).decision == 1


@given(pairs=_PAIRS)
def test_the_leads_to_stop_are_where_it_stops(pairs):
    test = StepTest(50, 0.05)
    x, y = np.array([p[0] for p in pairs], int), np.array([p[1] for p in pairs], int)
    verdict = test.run(x, y)
    lead = np.cumsum(y) - np.cumsum(x)
    leads = test.leads_to_stop(x, y)
    assert leads is not None
    for_arm1, for_arm0 = leads
    reached = np.flatnonzero((lead >= for_arm1) | (-lead >= for_arm0))
    assert (verdict.decision != 0) == (len(reached) > 0)
    assert not len(reached) or verdict.time == reached[0] + 1


@pytest.mark.parametrize("form", ["deterministic", "randomised"])
def test_runs_behave_as_the_exact_calculation_says(form):
    n, p0, p1, num_runs = 30, 0.35, 0.65, 4000
    rng = np.random.default_rng(7)
    x, y = rng.random((num_runs, n)) < p0, rng.random((num_runs, n)) < p1
    seeds = range(num_runs) if form == "randomised" else [None] * num_runs
    verdicts = [
        StepTest(n, 0.05, form=form, seed=seed).run(a, b)
        for a, b, seed in zip(x, y, seeds, strict=True)
    ]
    exact = operating_characteristics(StepTest(n, 0.05, form=form, seed=seeds[0]).boundary, p0, p1)
    power = np.mean([verdict.decision == 1 for verdict in verdicts])
    mean_time = np.mean([verdict.time for verdict in verdicts])
    assert power == pytest.approx(float(exact.arm1_better), abs=4.0 * 0.5 / np.sqrt(num_runs))
    assert mean_time == pytest.approx(
        float(exact.expected_time), abs=4.0 * n / 2 / np.sqrt(num_runs)
    )


def test_the_randomised_form_decides_as_the_reference_on_every_sequence(reference):
    oracle = reference("sequential_decisions")
    test = StepTest(oracle["n_max"], oracle["alpha_per_side"], form="randomised", seed=42)
    for x, y, *_, decision in oracle["records"]:
        assert test.run([*map(int, x)], [*map(int, y)]).decision == decision


def test_its_decisions_differ_from_the_randomised_form_only_by_deciding(reference):
    oracle = reference("sequential_decisions")
    test = StepTest(oracle["n_max"], oracle["alpha_per_side"])
    differing = []
    for x, y, *_, decision in oracle["records"]:
        mine = test.run([*map(int, x)], [*map(int, y)]).decision
        if mine != decision:
            differing.append((decision, mine))
    assert len(differing) <= 0.03 * len(oracle["records"])
    assert all(decision == 0 for decision, _ in differing)


@pytest.mark.parametrize(
    ("arm0", "arm1"), [([], []), ((0, 1), (1, 1)), ([True], [False]), (np.zeros(3), np.ones(3))]
)
def test_outcomes_may_be_any_sequence_of_zero_and_one(arm0, arm1):
    as_integers = StepTest(8, 0.05).run(np.array(arm0, int), np.array(arm1, int))
    assert StepTest(8, 0.05).run(arm0, arm1) == as_integers


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        ([1], [], "one length, got 1 of arm 0 and 0 of arm 1"),
        ([2], [0], "must be 0 or 1, got 2 in arm 0"),
        ([0], [-1], "must be 0 or 1, got -1 in arm 1"),
        ([0.5], [0], r"must be 0 or 1, got 0\.5 in arm 0"),
        ([0], [float("nan")], "must be 0 or 1, got nan in arm 1"),
        (["1"], [0], "must be 0 or 1, got <U1 values in arm 0"),
        ([[1]], [[0]], "one sequence, got shape"),
        ([1] * 9, [0] * 9, "9 episodes are more than the 8 fixed beforehand"),
    ],
)
def test_wrong_outcomes_are_refused(x, y, message):
    with pytest.raises(ValueError, match=message):
        StepTest(8, 0.05).run(x, y)


@pytest.mark.parametrize(
    ("n_max", "alpha"),
    [(0, 0.05), (-3, 0.05), (2.5, 0.05), (50, 0.0), (50, 0.5), (50, float("nan")), (10**6, 0.05)],
)
def test_an_impossible_design_is_refused(n_max, alpha):
    with pytest.raises(ValueError, match="must"):
        StepTest(n_max, alpha)


def test_a_seed_belongs_to_the_randomised_form():
    with pytest.raises(ValueError, match="needs a seed"):
        StepTest(12, 0.05, form="randomised")
    with pytest.raises(ValueError, match="draws nothing"):
        StepTest(12, 0.05, seed=1)
    assert StepTest(12, 0.05, form="randomised", seed=1).leads_to_stop([0], [1]) is None


def test_a_verdict_takes_microseconds():
    test = StepTest(200, 0.025)
    rng = np.random.default_rng(3)
    x, y = rng.integers(0, 2, 200), rng.integers(0, 2, 200)

    def verdict_s() -> float:
        # Of this thread alone, whatever else wants the core.
        begin = time.thread_time()
        for _ in range(200):
            test.run(x, y)
        return (time.thread_time() - begin) / 200

    # 15 us on an idle core; the bound allows for one that is shared, as its caches are.
    assert min(verdict_s() for _ in range(10)) < 150e-6
