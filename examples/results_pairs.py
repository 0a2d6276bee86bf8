"""Two policies on the same episodes of a task, as docs/results.md sets them side by side."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from results_ledger import Evaluated, Result
from results_tables import held_out

from sim_client.tasks.catalog import TASKS
from step_analysis.api import compare_outcomes
from step_analysis.stratified import StratumCounts, mean_difference, mean_rate


@dataclass(frozen=True, kw_only=True)
class Pair:
    """Two evaluations of one task, on the episodes that both have; 0 or 1 an episode."""

    task: str
    first: Sequence[int]
    second: Sequence[int]

    @property
    def points(self) -> float:
        """Of the second policy over the first."""
        return 100.0 * (sum(self.second) - sum(self.first)) / len(self.first)


def own_evaluations(alone: Mapping[str, Result]) -> dict[str, Evaluated]:
    """Of the policies that do one task each, by it."""
    return {task: each for task in alone if (each := held_out(alone[task]).get(task))}


def pairs_of(first: Mapping[str, Evaluated], second: Mapping[str, Evaluated]) -> Iterator[Pair]:
    """By task, of those that both have on the same episodes."""
    for task in TASKS:
        if task not in first or task not in second:
            continue
        one, other = first[task], second[task]
        start = max(one.first_episode, other.first_episode)
        stop = min(each.first_episode + len(each.outcomes) for each in (one, other))
        if start < stop:
            of_one, of_other = (
                each.successes[start - each.first_episode : stop - each.first_episode]
                for each in (one, other)
            )
            yield Pair(task=task, first=of_one, second=of_other)


def difference_cells(pair: Pair | None, *, alpha: float) -> tuple[str, str]:
    """In points, and what McNemar's exact test shows of it."""
    if pair is None:
        return "", ""
    decision = compare_outcomes(pair.first, pair.second, method="mcnemar", alpha=alpha).decision
    return f"{pair.points:+.0f}", {1: "better", 0: "", -1: "worse"}[decision]


def stratum(successes: Sequence[int]) -> StratumCounts:
    return StratumCounts(successes=sum(successes), num_episodes=len(successes))


def mean_success(successes: Sequence[Sequence[int]]) -> str:
    """The rate in per cent, with the interval; each task has the same weight."""
    mean = mean_rate([stratum(each) for each in successes])
    lower, upper = (100 * bound for bound in mean.interval)
    return f"{100 * mean.value:.1f} % (95 %: {lower:.1f} to {upper:.1f})"


def mean_points(pairs: Sequence[Pair]) -> str:
    """Of the second policy over the first, with the interval; each task has the same weight."""
    mean = mean_difference(
        [stratum(pair.first) for pair in pairs], [stratum(pair.second) for pair in pairs]
    )
    lower, upper = (100 * bound for bound in mean.interval)
    return f"{100 * mean.value:+.1f} points (95 %: {lower:+.1f} to {upper:+.1f})"
