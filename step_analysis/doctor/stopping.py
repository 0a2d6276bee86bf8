"""Signs that somebody looked and stopped when the result pleased.

A sequential test allows looking, as long as its budget was fixed beforehand; a fixed-sample test
and an ordinary interval do not. What is left of a look is a sample that ends just where an
ordinary test turned significant.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import combinations
from statistics import NormalDist

import numpy as np

from step_analysis.doctor.tally import Tally, named, plural
from step_analysis.findings import Finding, Severity
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import Outcome

_CRITICAL_Z = NormalDist().inv_cdf(0.975)
_MIN_EPISODES = 10
_LATE_SHARE = 0.05
"""A verdict is fresh if it came within this share of the episodes before the end."""
_EXPECTED_SHARE = 0.1
"""Of so many pairs some are fresh by chance; what is not more says nothing."""


def stopped_at_a_verdict(policies: Sequence[PolicyRollouts], task: str) -> Iterator[Finding]:
    """Pairs whose episodes end, below the budget, right after an ordinary test turned."""
    arms = {policy.policy: policy.tasks[task] for policy in policies if task in policy.tasks}
    is_planned = all(rollouts.budget_is_recorded for rollouts in arms.values())
    if is_planned and all(len(r.counted) >= r.max_sample_size for r in arms.values()):
        return
    pairs = list(combinations(arms, 2))
    successes = {
        name: {
            i: r.outcome is Outcome.SUCCESS
            for i, r in rollouts.outcomes.items()
            if r.outcome.counts
        }
        for name, rollouts in arms.items()
    }
    fresh = []
    for name0, name1 in pairs:
        budget = _recorded_budget(arms[name0], arms[name1])
        turned = _turned_just_now(successes[name0], successes[name1], budget)
        if turned is not None:
            fresh.append((name0, name1, *turned))
    if not fresh or len(fresh) <= _EXPECTED_SHARE * len(pairs):
        return
    name0, name1, turned_at, tally0, tally1 = fresh[0]
    num = tally0.num_counted
    yield Finding(
        code="optional-stopping",
        severity=Severity.NOTE if is_planned else Severity.WARNING,
        policy=None,
        task=task,
        count=len(fresh),
        text=(
            f"{len(fresh)} of {plural(len(pairs), 'pair')} ended where an ordinary 5% test had "
            f"just turned: {name0} and {name1} at episode {turned_at} of {num}"
        ),
        effect=(
            f"{name0} {tally0}, {name1} {tally1}: "
            + (
                "verdicts of a sequential test hold, as the budget was recorded; intervals for a "
                "fixed number of episodes are too optimistic"
                if is_planned
                else "no budget is recorded; had somebody looked and stopped, no verdict would hold"
            )
        ),
        numbers={"turned_at": turned_at, "num_episodes": num},
    )


def several_runs(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Tasks that were continued after a look was possible."""
    for policy in policies:
        continued = {n: task for n, task in policy.tasks.items() if len(task.runs) > 1}
        if not continued:
            continue
        is_planned = all(
            task.budget_is_recorded and len({run.budget for run in task.runs}) == 1
            for task in continued.values()
        )
        runs = "; ".join(
            f"{name}: " + " + ".join(str(run.num_requested) for run in task.runs)
            for name, task in list(continued.items())[:3]
        )
        yield Finding(
            code="optional-stopping-several-runs",
            severity=Severity.NOTE if is_planned else Severity.WARNING,
            policy=policy.policy,
            task=next(iter(continued)) if len(continued) == 1 else None,
            count=max(len(task.runs) for task in continued.values()),
            text=(
                f"episodes of {plural(len(continued), 'task')} come from several files, so "
                f"somebody may have looked in between: {runs}"
            ),
            effect=(
                "merged by scenario; the budget is the same in each, so sequential verdicts hold"
                if is_planned
                else "merged by scenario; without one budget in all of them, stopping after a "
                "good look can't be ruled out"
            ),
        )


def uneven_stops(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Policies with different numbers of episodes on one task, and no plan that says so."""
    uneven: dict[str, list[int]] = {}
    for task in sorted({task for policy in policies for task in policy.tasks}):
        arms = [policy.tasks[task] for policy in policies if task in policy.tasks]
        counts = [len(rollouts.requested) for rollouts in arms]
        if len(set(counts)) > 1 and not all(rollouts.budget_is_recorded for rollouts in arms):
            uneven[task] = counts
    if uneven:
        examples = named(f"{task} {sorted(set(counts))}" for task, counts in uneven.items())
        yield Finding(
            code="optional-stopping-uneven",
            severity=Severity.WARNING,
            policy=None,
            task=next(iter(uneven)) if len(uneven) == 1 else None,
            count=len(uneven),
            text=(
                f"policies stopped after different numbers of episodes, and no budget is recorded: "
                f"{examples}"
            ),
            effect=(
                "if the numbers were chosen on seeing the results, rates and verdicts favour what "
                "was ahead; pairs are tested on the smaller number"
            ),
        )


def _recorded_budget(rollouts0: TaskRollouts, rollouts1: TaskRollouts) -> float:
    """The smaller of two budgets; infinite if one is not recorded, as then nothing was planned."""
    if rollouts0.budget_is_recorded and rollouts1.budget_is_recorded:
        return min(rollouts0.max_sample_size, rollouts1.max_sample_size)
    return math.inf


def _turned_just_now(
    successes0: Mapping[int, bool], successes1: Mapping[int, bool], budget: float
) -> tuple[int, Tally, Tally] | None:
    """The episode at which a pooled z-test first turned, if that was at the very end."""
    common = sorted(successes0.keys() & successes1.keys())
    num = len(common)
    if num < _MIN_EPISODES or num >= budget:
        return None
    outcomes = np.array([[successes0[i], successes1[i]] for i in common], dtype=float)
    time = np.arange(1, num + 1)
    successes = outcomes.cumsum(axis=0)
    pooled = successes.sum(axis=1) / (2 * time)
    spread = np.sqrt(2.0 * pooled * (1.0 - pooled) / time)
    difference = np.abs(successes[:, 0] - successes[:, 1]) / time
    is_significant = (difference >= _CRITICAL_Z * spread) & (spread > 0.0)
    window = max(1, int(_LATE_SHARE * num))
    earlier = is_significant[num // 2 : num - window]
    if not is_significant[-1] or earlier.any():
        return None
    turned_at = int(np.flatnonzero(is_significant[num - window :])[0]) + num - window + 1
    ends = [Tally(int(successes[-1, arm]), num) for arm in (0, 1)]
    return turned_at, ends[0], ends[1]
