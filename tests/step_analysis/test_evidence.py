"""What a test may look at, and that its error holds through whatever happens to the runner."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from step_analysis.comparison import compare
from step_analysis.evidence import (
    NOT_FINISHED,
    arm_of,
    block_order,
    contiguous_prefix,
    pair_outcomes,
)
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.methods import make_test
from step_analysis.planning.characteristics import TrueRates, characteristics
from step_analysis.rollouts import Outcome, RolloutRecord

TASK = "PickAndPlaceBox"
RATES = (0.2, 0.5, 0.8)

_codes = st.lists(st.sampled_from([1, 0, -1, -2]), max_size=20)


def _policy(name, codes, task=TASK, budget=None, first=0):
    outcomes = {
        1: Outcome.SUCCESS,
        0: Outcome.FAILURE,
        -2: Outcome.ERROR,
    }
    records = {
        first + i: RolloutRecord(
            policy=name, task=task, scenario_index=first + i, seed=None, outcome=outcomes[code]
        )
        for i, code in enumerate(codes)
        if code != NOT_FINISHED
    }
    rollouts = TaskRollouts(
        task=task,
        outcomes=records,
        requested=tuple(range(first, first + len(codes))),
        max_sample_size=budget or max(len(codes), 1),
        budget_is_recorded=True,
    )
    return PolicyRollouts(policy=name, tasks={task: rollouts}, design=None, sources=())


class _Study:
    """Two policies of one true rate on an unreliable runner.

    Failures take longer than successes, workers finish out of order, and some attempts end in an
    error and are run again later. `codes_at(k)` is what lies there after k attempts.
    """

    def __init__(self, rng: np.random.Generator, n: int, rate: float | None = None) -> None:
        self.rate = float(rng.choice(RATES)) if rate is None else rate
        self.outcomes = (rng.random((2, n)) < self.rate).astype(np.int8)
        start = np.sort(rng.random((2, n)) * n, axis=1)
        self.finish = start + rng.exponential(np.where(self.outcomes == 1, 2.0, 8.0))
        crashed = rng.random((2, n)) < 0.1
        self.finish[crashed] += n * rng.random(int(crashed.sum()))
        self.order = np.argsort(self.finish, axis=None)

    def prefixes(self) -> np.ndarray:
        """The length that may be looked at after each attempt: by definition of the gaps."""
        latest_of_pair = self.finish.max(axis=0)
        ready = np.maximum.accumulate(latest_of_pair)
        times = np.sort(self.finish, axis=None)
        return np.searchsorted(ready, times, side="right")

    def codes_at(self, num_attempts: int) -> np.ndarray:
        codes = np.full_like(self.outcomes, NOT_FINISHED)
        done = self.order[:num_attempts]
        codes.ravel()[done] = self.outcomes.ravel()[done]
        return codes


@given(codes0=_codes, codes1=_codes)
def test_nothing_after_the_first_gap_is_seen(codes0, codes1):
    n = min(len(codes0), len(codes1))
    arm0, arm1 = (arm_of(_policy(name, c)) for name, c in (("a", codes0), ("b", codes1)))
    seen = pair_outcomes(arm0, arm1, (TASK,))
    length = len(seen.outcomes0)
    assert seen.outcomes0.tolist() == codes0[:length]
    assert seen.outcomes1.tolist() == codes1[:length]
    assert min([*codes0[:length], *codes1[:length], 0]) == 0
    assert length == n or min(codes0[length], codes1[length]) < 0
    assert (seen.stopped_because is None) == (length == seen.n_max)


def test_the_prefix_of_a_study_is_that_of_its_codes():
    rng = np.random.default_rng(3)
    for _ in range(20):
        study = _Study(rng, 12)
        lengths = [contiguous_prefix(*study.codes_at(k)) for k in range(1, 25)]
        assert lengths == study.prefixes().tolist()
        assert lengths[-1] == 12


def _false_verdicts(method, num_studies, n, alpha, seed):
    """Studies with any verdict at any look; a look after each attempt that lengthens the prefix."""
    rng = np.random.default_rng(seed)
    test = make_test(method, n, alpha / 2.0)
    wrong = 0
    for _ in range(num_studies):
        study = _Study(rng, n)
        looks = np.unique(study.prefixes())
        x, y = study.outcomes
        wrong += any(test.run(x[:k], y[:k]).decision for k in looks.tolist())
    return wrong / num_studies


@pytest.mark.slow
@pytest.mark.parametrize("method", ["step", "paired"])
def test_ten_thousand_studies_without_a_difference_err_within_alpha(method):
    n, alpha, num_studies = 30, 0.1, 10_000
    share = _false_verdicts(method, num_studies, n, alpha, seed=2)
    assert share <= alpha
    # Nor is that for lack of verdicts: it is the chance computed exactly, but for three deviations.
    exact = [characteristics(method, n, alpha / 2.0, TrueRates(p0=p, p1=p)) for p in RATES]
    expected = np.mean([found.arm1_better + found.arm0_better for found in exact])
    assert expected <= alpha
    assert share == pytest.approx(expected, abs=3 * (alpha / num_studies) ** 0.5)


@pytest.mark.slow
@pytest.mark.parametrize("method", ["step", "lai", "savi", "paired"])
def test_longer_studies_without_a_difference_err_within_alpha(method):
    assert _false_verdicts(method, 10_000, 120, 0.05, seed=2) <= 0.05


def test_the_same_studies_read_as_they_finish_would_err():
    """The runner is unreliable enough to fool a test that takes what is there when it is there."""
    rng = np.random.default_rng(1)
    n, num_studies, wrong = 30, 400, 0
    test = make_test("step", n, 0.05)
    for _ in range(num_studies):
        study = _Study(rng, n)
        # Arm 0 is read in order, of arm 1 whatever has finished first.
        x, y = study.outcomes[0], study.outcomes[1][np.argsort(study.finish[1])]
        wrong += test.run(x, y).decision == 1
    assert wrong / num_studies > 0.07


@pytest.mark.parametrize("num_studies", [60, pytest.param(3000, marks=pytest.mark.slow)])
def test_comparisons_of_three_policies_at_every_stage(num_studies):
    """Through the public comparison: a verdict once given stays, and few are given."""
    rng = np.random.default_rng(4)
    n, alpha, wrong = 16, 0.2, 0
    for _ in range(num_studies):
        study = _Study(rng, n)
        other = _Study(rng, n, study.rate)
        given = {}
        for attempts in (n // 2, n, 2 * n):
            codes = study.codes_at(attempts)
            policies = [
                _policy("a", codes[0].tolist()),
                _policy("b", codes[1].tolist()),
                _policy("c", other.codes_at(attempts)[0].tolist()),
            ]
            (panel,) = compare(policies, alpha=alpha, correction="holm").task_panels
            now = {(p.arm0, p.arm1): p.winner for p in panel.pairs if p.winner}
            assert given.items() <= now.items()
            given = now
        wrong += bool(given)
    assert wrong / num_studies <= alpha


def test_blocks_weigh_tasks_equally_and_more_blocks_keep_the_earlier_ones():
    few, many = block_order(5, 8), block_order(5, 40)
    assert (many[:8] == few).all()
    assert (np.sort(many, axis=1) == np.arange(5)).all()
    assert len({tuple(row) for row in many.tolist()}) > 20


def test_scenarios_asked_of_one_only_are_left_out():
    arm0 = arm_of(_policy("a", [1] * 6, budget=6))
    arm1 = arm_of(_policy("b", [0] * 6, budget=6, first=4))
    seen = pair_outcomes(arm0, arm1, (TASK,))
    assert (seen.outcomes0.tolist(), seen.outcomes1.tolist(), seen.n_max) == ([1, 1], [0, 0], 6)
    assert seen.stopped_because == "2 of the budget of 6 episodes were asked for"
