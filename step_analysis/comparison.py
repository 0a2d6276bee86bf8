"""Comparing policies: on each task, and over the tasks that all of them have.

Each pair is tested on the scenarios that both were asked for, in order of scenario index, up to
the first that either has not finished. What finished earlier or later in real time therefore
can't matter: a slow failure or a crash leaves a gap, and the test waits there.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import combinations
from typing import Literal

import numpy as np

from step_analysis.compact_letters import compact_letters
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.sequential.lai import LaiTest
from step_analysis.sequential.pairwise_test import PairwiseTest
from step_analysis.sequential.savi import SaviTest
from step_analysis.sequential.step import StepTest

Method = Literal["auto", "step", "lai", "savi"]

DEFAULT_ALPHA = 0.05
STEP_MAX_SAMPLE_SIZE = 500
"""Up to this budget `auto` is STEP; making a boundary takes time with its cube, Lai's does not."""

_BLOCK_ORDER_SEED = 20250613
_MIN_AGGREGATED_TASKS = 2


@dataclass(frozen=True, kw_only=True)
class Count:
    """One policy's outcomes on one task, or pooled over several."""

    policy: str
    successes: int
    num_counted: int
    num_timeouts: int
    num_errors: int
    num_missing: int

    @property
    def rate(self) -> float | None:
        return self.successes / self.num_counted if self.num_counted else None


@dataclass(frozen=True, kw_only=True)
class PairResult:
    """The test of two policies.

    `outcomes0` and `outcomes1` are the 0/1 sequences that the test could look at;
    `stopped_because` says why they end before the budget, None if they do not.
    """

    arm0: str
    arm1: str
    test: PairwiseTest
    outcomes0: tuple[int, ...]
    outcomes1: tuple[int, ...]
    winner: str | None
    time: int
    """Episodes of each arm looked at when the test decided, or all there are."""
    stopped_because: str | None

    @property
    def num_available(self) -> int:
        return len(self.outcomes0)

    @property
    def loser(self) -> str | None:
        if self.winner is None:
            return None
        return self.arm0 if self.winner == self.arm1 else self.arm1


@dataclass(frozen=True, kw_only=True)
class Panel:
    """The comparison on one task (`tasks` has one name) or over several common ones."""

    tasks: tuple[str, ...]
    counts: tuple[Count, ...]
    """Best rate first; policies of one rate by name."""
    pairs: tuple[PairResult, ...]
    letters: Mapping[str, str]

    @property
    def title(self) -> str:
        return self.tasks[0] if len(self.tasks) == 1 else f"All {len(self.tasks)} common tasks"

    def count(self, policy: str) -> Count:
        return next(count for count in self.counts if count.policy == policy)


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """Everything that the rollouts say."""

    policies: tuple[PolicyRollouts, ...]
    alpha: float
    method: Method
    task_panels: tuple[Panel, ...]
    aggregate: Panel | None
    """Over the tasks common to all policies; None if there are fewer than two."""

    @property
    def overall(self) -> Panel | None:
        """The panel that a headline is about; None if no task is common to all policies."""
        if self.aggregate is not None:
            return self.aggregate
        common = _common_tasks(self.policies)
        return next((p for p in self.task_panels if p.tasks == common), None)


def compare(
    policies: Sequence[PolicyRollouts], alpha: float = DEFAULT_ALPHA, method: Method = "auto"
) -> Comparison:
    """Compare all policies pairwise.

    Args:
        alpha: bound on the chance of any wrong verdict within a panel, both directions together;
            Bonferroni over its pairs.

    Raises:
        ValueError: alpha outside (0, 1).
    """
    if not 0.0 < alpha < 1.0:
        raise ValueError(f"alpha must lie strictly between 0 and 1, got {alpha:g}")
    tasks = sorted({task for policy in policies for task in policy.tasks})
    common = _common_tasks(policies)
    return Comparison(
        policies=tuple(policies),
        alpha=alpha,
        method=method,
        task_panels=tuple(_panel((task,), policies, alpha, method) for task in tasks),
        aggregate=(
            _panel(common, policies, alpha, method)
            if len(common) >= _MIN_AGGREGATED_TASKS
            else None
        ),
    )


def make_test(method: Method, n_max: int, alpha_per_side: float) -> PairwiseTest:
    """The test that `method` means for this budget."""
    if method == "auto":
        method = "step" if n_max <= STEP_MAX_SAMPLE_SIZE else "lai"
    kinds: dict[str, type[StepTest] | type[LaiTest] | type[SaviTest]] = {
        "step": StepTest,
        "lai": LaiTest,
        "savi": SaviTest,
    }
    return kinds[method](n_max, alpha_per_side)


def _common_tasks(policies: Sequence[PolicyRollouts]) -> tuple[str, ...]:
    if not policies:
        return ()
    return tuple(sorted(set.intersection(*(set(policy.tasks) for policy in policies))))


def _panel(
    tasks: tuple[str, ...], policies: Sequence[PolicyRollouts], alpha: float, method: Method
) -> Panel:
    arms = [policy for policy in policies if all(task in policy.tasks for task in tasks)]
    counts = [_count(arm, tasks) for arm in arms]
    counts.sort(key=lambda count: (-(count.rate if count.rate is not None else -1.0), count.policy))
    arm_pairs = list(combinations(arms, 2))
    pairs = tuple(
        _test_pair(arm0, arm1, tasks, alpha / len(arm_pairs) / 2.0, method)
        for arm0, arm1 in arm_pairs
    )
    different = [(pair.arm0, pair.arm1) for pair in pairs if pair.winner is not None]
    letters = compact_letters([count.policy for count in counts], different)
    return Panel(tasks=tasks, counts=tuple(counts), pairs=pairs, letters=letters)


def _count(policy: PolicyRollouts, tasks: Sequence[str]) -> Count:
    rollouts = [policy.tasks[task] for task in tasks]
    counted = [record for task in rollouts for record in task.counted]
    return Count(
        policy=policy.policy,
        successes=sum(record.outcome is Outcome.SUCCESS for record in counted),
        num_counted=len(counted),
        num_timeouts=sum(record.outcome is Outcome.TIMEOUT for record in counted),
        num_errors=sum(len(task.errors) for task in rollouts),
        num_missing=sum(task.num_missing for task in rollouts),
    )


def _test_pair(
    arm0: PolicyRollouts,
    arm1: PolicyRollouts,
    tasks: tuple[str, ...],
    alpha_per_side: float,
    method: Method,
) -> PairResult:
    budget = min(arm.tasks[task].max_sample_size for arm in (arm0, arm1) for task in tasks)
    n_max = budget * len(tasks)
    outcomes0: list[int] = []
    outcomes1: list[int] = []
    stopped_because = None
    for task, index in _episode_order(arm0, arm1, tasks, budget):
        gap = _gap(arm0, task, index) or _gap(arm1, task, index)
        if gap is not None:
            stopped_because = gap
            break
        outcomes0.append(_is_success(arm0.tasks[task].outcomes[index]))
        outcomes1.append(_is_success(arm1.tasks[task].outcomes[index]))
    if stopped_because is None and len(outcomes0) < n_max:
        stopped_because = (
            f"{len(outcomes0)} of the budget of {n_max} episodes were asked for"
            if outcomes0
            else "no scenario was asked of both"
        )
    test = make_test(method, n_max, alpha_per_side)
    verdict = test.run(outcomes0, outcomes1)
    winner = {1: arm1.policy, -1: arm0.policy}.get(verdict.decision)
    return PairResult(
        arm0=arm0.policy,
        arm1=arm1.policy,
        test=test,
        outcomes0=tuple(outcomes0),
        outcomes1=tuple(outcomes1),
        winner=winner,
        time=verdict.time,
        stopped_because=stopped_because,
    )


def _episode_order(
    arm0: PolicyRollouts, arm1: PolicyRollouts, tasks: tuple[str, ...], budget: int
) -> list[tuple[str, int]]:
    """(task, scenario index) in testing order: known before any episode is run.

    Over several tasks it goes in blocks of one episode of each, shuffled by a fixed seed within
    the block, so that at any time every task has the same weight and none leads each block.
    """
    common = {
        task: sorted({*arm0.tasks[task].requested} & {*arm1.tasks[task].requested})[:budget]
        for task in tasks
    }
    order: list[tuple[str, int]] = []
    for block in range(min(map(len, common.values()))):
        for i in _block_shuffle(len(tasks), block):
            order.append((tasks[i], common[tasks[i]][block]))
    return order


@lru_cache(maxsize=4096)
def _block_shuffle(num_tasks: int, block: int) -> tuple[int, ...]:
    shuffle = np.random.default_rng((_BLOCK_ORDER_SEED, block)).permutation(num_tasks)
    return tuple(shuffle.tolist())


def _gap(policy: PolicyRollouts, task: str, index: int) -> str | None:
    rollouts: TaskRollouts = policy.tasks[task]
    record = rollouts.outcomes.get(index)
    if record is None:
        return f"{policy.policy} has not finished {task} scenario {index}"
    if not record.outcome.counts:
        return f"{policy.policy} met an error in {task} scenario {index}"
    return None


def _is_success(record: RolloutRecord) -> int:
    return int(record.outcome is Outcome.SUCCESS)
