"""Rates and differences over several tasks, each with the same weight whatever its episodes.

The intervals join those of the tasks by MOVER (method of variance estimates recovery: Zou and
Donner, Statistics in Medicine 27 (2008) 1693-1702): each task's distance between estimate and
bound counts as its standard deviation on that side. With Wilson's intervals inside and one task
they are Wilson's and Newcombe's own.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from step_analysis.intervals import DEFAULT_CONFIDENCE, Interval, check_counts, wilson


@dataclass(frozen=True, kw_only=True)
class StratumCounts:
    """One policy's outcomes on one task."""

    successes: int
    num_episodes: int

    def __post_init__(self) -> None:
        check_counts(self.successes, self.num_episodes)
        if self.num_episodes == 0:
            raise ValueError("each task needs an episode for a mean over tasks")

    @property
    def rate(self) -> float:
        return self.successes / self.num_episodes


@dataclass(frozen=True)
class Estimate:
    """A mean over tasks and its interval."""

    value: float
    interval: Interval


def mean_rate(strata: Sequence[StratumCounts], confidence: float = DEFAULT_CONFIDENCE) -> Estimate:
    """The mean of the tasks' success rates, each task weighing the same.

    Raises:
        ValueError: no task, or a confidence outside (0, 1).
    """
    _check_some(len(strata))
    below, above = _squares(strata, confidence)
    value = math.fsum(stratum.rate for stratum in strata) / len(strata)
    return Estimate(
        value,
        Interval(
            max(value - math.sqrt(below) / len(strata), 0.0),
            min(value + math.sqrt(above) / len(strata), 1.0),
        ),
    )


def mean_difference(
    strata0: Sequence[StratumCounts],
    strata1: Sequence[StratumCounts],
    confidence: float = DEFAULT_CONFIDENCE,
) -> Estimate:
    """The mean over tasks of arm 1's rate minus arm 0's, for independent arms.

    Args:
        strata0, strata1: the same tasks in the same order.

    Raises:
        ValueError: no task, other numbers of tasks, or a confidence outside (0, 1).
    """
    _check_some(len(strata0))
    if len(strata0) != len(strata1):
        raise ValueError(
            f"the same tasks expected for both policies, got {len(strata0)} and {len(strata1)}"
        )
    num = len(strata0)
    below0, above0 = _squares(strata0, confidence)
    below1, above1 = _squares(strata1, confidence)
    value = math.fsum(s1.rate - s0.rate for s0, s1 in zip(strata0, strata1, strict=True)) / num
    return Estimate(
        value,
        Interval(
            max(value - math.sqrt(below1 + above0) / num, -1.0),
            min(value + math.sqrt(above1 + below0) / num, 1.0),
        ),
    )


def _squares(strata: Sequence[StratumCounts], confidence: float) -> tuple[float, float]:
    """Sums over tasks of the squared distances from the rate down and up to Wilson's bounds."""
    bounds = [wilson(s.successes, s.num_episodes, confidence) for s in strata]
    return (
        math.fsum((s.rate - b.lower) ** 2 for s, b in zip(strata, bounds, strict=True)),
        math.fsum((b.upper - s.rate) ** 2 for s, b in zip(strata, bounds, strict=True)),
    )


def _check_some(num_tasks: int) -> None:
    if num_tasks == 0:
        raise ValueError("at least one task is needed for a mean over tasks")
