"""Whether outcomes depend on their order: then the episodes are no independent repetitions.

Along the scenario index and, where it is known, along the time of completion: the runs test finds
clusters and alternation, the rank-sum test finds a trend. Many such tests are made at once, so a
finding needs a p-value that is small after Holm's correction over all of them.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

import numpy as np

from step_analysis import special
from step_analysis.doctor.tally import tally
from step_analysis.findings import Finding, Severity
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import Outcome, RolloutRecord

ORDER_ALPHA = 0.01
"""Chance of any finding of this kind in rollouts without an order effect."""
_MIN_EPISODES = 10

Along = Literal["scenario index", "time of completion"]


@dataclass(frozen=True, kw_only=True)
class _OrderTest:
    policy: str
    task: TaskRollouts
    records: Sequence[RolloutRecord]
    along: Along
    kind: Literal["runs", "trend"]
    p_value: float


def runs_p_value(outcomes: Sequence[bool]) -> float:
    """Two-sided p-value of the exact Wald-Wolfowitz runs test, given the number of successes.

    Source: Wald and Wolfowitz, Annals of Mathematical Statistics 11 (1940). 1 if all are equal.
    """
    sequence = np.asarray(outcomes, dtype=bool)
    ones = int(sequence.sum())
    zeros = len(sequence) - ones
    if not ones or not zeros:
        return 1.0
    num_runs = 1 + int(np.count_nonzero(sequence[1:] != sequence[:-1]))
    runs = np.arange(2, 2 * min(ones, zeros) + 2)
    half = runs // 2
    even = _log_choose(ones - 1, half - 1) + _log_choose(zeros - 1, half - 1) + np.log(2.0)
    odd = np.logaddexp(
        _log_choose(ones - 1, half) + _log_choose(zeros - 1, half - 1),
        _log_choose(ones - 1, half - 1) + _log_choose(zeros - 1, half),
    )
    chance = np.exp(np.where(runs % 2, odd, even) - _log_choose(ones + zeros, np.array([ones])))
    below, above = chance[runs <= num_runs].sum(), chance[runs >= num_runs].sum()
    return float(min(1.0, 2.0 * min(below, above)))


def trend_p_value(outcomes: Sequence[bool]) -> float:
    """Two-sided p-value of the rank-sum test of the successes' positions, normal approximation."""
    sequence = np.asarray(outcomes, dtype=bool)
    ones = int(sequence.sum())
    zeros = len(sequence) - ones
    if not ones or not zeros:
        return 1.0
    excess = float(np.flatnonzero(sequence).sum()) - ones * (len(sequence) - 1) / 2.0
    spread = np.sqrt(ones * zeros * (len(sequence) + 1) / 12.0)
    return float(min(1.0, 2.0 * special.ndtr(-max(0.0, abs(excess) - 0.5) / spread)))


def order_effects(policies: Sequence[PolicyRollouts]) -> Iterator[Finding]:
    """Tasks in which a policy's success depends on when the episode came."""
    tests = sorted(
        (test for policy in policies for test in _tests_of(policy)), key=lambda test: test.p_value
    )
    adjusted = 0.0
    told: set[tuple[str, str, Along]] = set()
    for rank, test in enumerate(tests):
        adjusted = max(adjusted, min(1.0, (len(tests) - rank) * test.p_value))
        if adjusted > ORDER_ALPHA:
            return
        # A trend clusters too: of one order the clearer sign is enough.
        place = (test.policy, test.task.task, test.along)
        if place in told:
            continue
        told.add(place)
        half = len(test.records) // 2
        first, second = tally(test.records[:half]), tally(test.records[half:])
        pattern = "a trend" if test.kind == "trend" else "clusters or alternation"
        yield Finding(
            code="order-effect",
            severity=Severity.WARNING,
            policy=test.policy,
            task=test.task.task,
            count=len(test.records),
            text=(
                f"{pattern} of successes along the {test.along}: p = {test.p_value:.2g}, "
                f"{adjusted:.2g} after correction for {len(tests)} such tests"
            ),
            effect=(
                f"first half {first}, second half {second}: episodes are not independent, so "
                "intervals and tests are too sure of themselves"
            ),
            numbers={
                "p_value": test.p_value,
                "adjusted_p_value": adjusted,
                "rate_first_half": first.rate,
                "rate_second_half": second.rate,
            },
        )


def _tests_of(policy: PolicyRollouts) -> Iterator[_OrderTest]:
    for task in policy.tasks.values():
        by_index = task.counted
        if len(by_index) < _MIN_EPISODES:
            continue
        yield from _both(policy, task, by_index, "scenario index")
        by_time = _in_order_of_completion(by_index)
        if by_time is not None and by_time != by_index:
            yield from _both(policy, task, by_time, "time of completion")


def _both(
    policy: PolicyRollouts, task: TaskRollouts, records: Sequence[RolloutRecord], along: Along
) -> Iterator[_OrderTest]:
    successes = [record.outcome is Outcome.SUCCESS for record in records]
    for kind, p_value in (("runs", runs_p_value(successes)), ("trend", trend_p_value(successes))):
        yield _OrderTest(
            policy=policy.policy,
            task=task,
            records=records,
            along=along,
            kind=kind,  # type: ignore[arg-type]
            p_value=p_value,
        )


def _in_order_of_completion(records: Sequence[RolloutRecord]) -> list[RolloutRecord] | None:
    """None if not every record knows its time."""
    ends: list[float] = []
    for record in records:
        if record.started_at is None:
            return None
        # Seconds since 1970: the calendar ends with the year 9999, whatever a file says.
        started = datetime.fromisoformat(record.started_at).timestamp()
        ends.append(started + (record.wall_s or 0.0))
    order = sorted(range(len(records)), key=lambda i: (ends[i], records[i].scenario_index))
    return [records[i] for i in order]


def _log_choose(n: int, k: np.ndarray) -> np.ndarray:
    """Logarithm of n over k; minus infinity where there is no such choice."""
    possible = (k >= 0) & (k <= n)
    inside = np.where(possible, k, 0)
    value = special.gammaln(n + 1) - special.gammaln(inside + 1) - special.gammaln(n - inside + 1)
    return np.where(possible, value, -np.inf)
