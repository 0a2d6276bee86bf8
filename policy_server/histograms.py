"""Distributions of durations, in memory that does not grow and at a cost that a step can bear."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from itertools import accumulate, pairwise

# A fifth of a decade apart, in the round numbers of ISO 3's series R5.
_MANTISSAS = (1.0, 1.6, 2.5, 4.0, 6.3)
_COARSE_S = (*(float(f"{m}e{e}") for e in range(-5, 2) for m in _MANTISSAS), 100.0)
_NUM_FINE = 5
# About 1.1 apart: percentiles are right to about 5 %.
_FINE_S = (
    _COARSE_S[0],
    *(
        high if i == _NUM_FINE else low * (high / low) ** (i / _NUM_FINE)
        for low, high in pairwise(_COARSE_S)
        for i in range(1, _NUM_FINE + 1)
    ),
)

EXPOSED_S: Sequence[float] = tuple(bound for bound in _COARSE_S if 2.5e-5 <= bound <= 10)
"""The buckets' upper bounds that Prometheus is told, from 25 microseconds to 10 s."""

_EXPOSED_INDICES = tuple(_FINE_S.index(bound) for bound in EXPOSED_S)


class DurationHistogram:
    """Durations in logarithmic buckets from 10 microseconds to 100 s.

    One thread adds; any may read meanwhile.
    """

    __slots__ = ("_counts", "sum_s")

    def __init__(self) -> None:
        # A list, because adding to an array's element takes three times as long.
        self._counts = [0] * (len(_FINE_S) + 1)
        self.sum_s = 0.0

    def add(self, duration_s: float) -> None:
        # The bucket whose upper bound is the first that is not smaller, as Prometheus's `le`.
        self._counts[bisect_left(_FINE_S, duration_s)] += 1
        self.sum_s += duration_s

    @property
    def count(self) -> int:
        return sum(self._counts)

    def percentile_ms(self, percent: float) -> float:
        """The geometric middle of the bucket that holds it; NaN while there is nothing."""
        cumulative = list(accumulate(self._counts))
        if cumulative[-1] == 0:
            return math.nan
        rank = max(math.ceil(cumulative[-1] * percent / 100), 1)
        bucket = bisect_left(cumulative, rank)
        upper_s = _FINE_S[min(bucket, len(_FINE_S) - 1)]
        lower_s = _FINE_S[min(max(bucket - 1, 0), len(_FINE_S) - 1)]
        return math.sqrt(lower_s * upper_s) * 1e3

    def exposed(self) -> tuple[list[int], int]:
        """How many were at most each of EXPOSED_S, and how many there were at all."""
        cumulative = list(accumulate(self._counts))
        return [cumulative[index] for index in _EXPOSED_INDICES], cumulative[-1]

    def __str__(self) -> str:
        if self.count == 0:
            return "none"
        values = (f"p{percent} {self.percentile_ms(percent):.2f}" for percent in (50, 95, 99))
        return f"{', '.join(values)} ms"
