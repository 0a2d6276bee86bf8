"""What the server counts while it runs, in memory that does not grow."""

from __future__ import annotations

import math
from dataclasses import dataclass, field

import numpy as np

# Buckets a factor of 1.1 apart from 10 microseconds: percentiles are right to about 5 %.
_SHORTEST_S = 1e-5
_RATIO = 1.1
_NUM_BUCKETS = 200


class LatencyHistogram:
    """Durations in logarithmic buckets."""

    def __init__(self) -> None:
        self._counts = np.zeros(_NUM_BUCKETS, dtype=np.int64)

    def add(self, duration_s: float) -> None:
        index = math.log(max(duration_s, _SHORTEST_S) / _SHORTEST_S) / math.log(_RATIO)
        self._counts[min(int(index), _NUM_BUCKETS - 1)] += 1

    @property
    def count(self) -> int:
        return int(self._counts.sum())

    def percentile_ms(self, percent: float) -> float:
        """The geometric middle of the bucket that holds it; NaN while there is nothing."""
        total = self.count
        if total == 0:
            return math.nan
        rank = max(math.ceil(total * percent / 100), 1)
        bucket = int(np.searchsorted(np.cumsum(self._counts), rank))
        return _SHORTEST_S * _RATIO ** (bucket + 0.5) * 1e3

    def __str__(self) -> str:
        if self.count == 0:
            return "none"
        values = (f"p{percent} {self.percentile_ms(percent):.2f}" for percent in (50, 95, 99))
        return f"{', '.join(values)} ms"


@dataclass(kw_only=True)
class ServerMetrics:
    """Counts since the start. planning: steps that waited for a plan. cached: those that did not.

    refusals: answers with an error status. forward_pass_s: time spent in the policy, in total.
    """

    num_episodes: int = 0
    num_refusals: int = 0
    num_batches: int = 0
    num_plans: int = 0
    forward_pass_s: float = 0.0
    planning: LatencyHistogram = field(default_factory=LatencyHistogram)
    cached: LatencyHistogram = field(default_factory=LatencyHistogram)

    def add_batch(self, size: int, duration_s: float) -> None:
        self.num_batches += 1
        self.num_plans += size
        self.forward_pass_s += duration_s

    @property
    def num_steps(self) -> int:
        return self.planning.count + self.cached.count

    @property
    def mean_batch_size(self) -> float:
        return self.num_plans / self.num_batches if self.num_batches else math.nan

    def summary(self) -> str:
        """One line."""
        if self.num_steps + self.num_refusals == 0:
            return f"answered no steps; {self.num_episodes} episodes begun"
        return (
            f"answered {self.num_steps} steps of {self.num_episodes} episodes, "
            f"refused {self.num_refusals} calls; {self.num_plans} plans in {self.num_batches} "
            f"forward passes (mean batch {self.mean_batch_size:.2f}, "
            f"{self.forward_pass_s:.1f} s in all); "
            f"latency with a plan: {self.planning}, without: {self.cached}"
        )
