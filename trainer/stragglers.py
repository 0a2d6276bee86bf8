"""Which of several ranks holds up the others."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainer.distributed import World

# Below that ranks differ by chance; and where a step is mostly exchange, the rest matters little.
_TIMES_THE_MEDIAN = 1.5
_SHARE_OF_A_STEP = 0.1


@dataclass(frozen=True, kw_only=True)
class Straggler:
    """own_s, median_s: of a step, its own work and that of the median rank."""

    rank: int
    own_s: float
    median_s: float

    @property
    def times_the_median(self) -> float:
        return self.own_s / self.median_s

    @property
    def numbers(self) -> Mapping[str, float]:
        """By their names among a run's."""
        return {
            "slowest_rank": self.rank,
            "slowest_rank_times_the_median": self.times_the_median,
        }

    def __str__(self) -> str:
        return (
            f"rank {self.rank} slow: {self.own_s:.3g} s a step by itself, "
            f"{self.times_the_median:.1f} times the median"
        )


def find_straggler(own_s: Sequence[float], step_s: float) -> Straggler | None:
    """The slowest rank, if it is slow enough to matter. own_s: of each rank's own work in a step.

    step_s: what a step takes. Of an even number of ranks the lower of the two in the middle is the
    median, lest one of two is measured by itself.
    """
    slowest = max(range(len(own_s)), key=own_s.__getitem__)
    median = statistics.median_low(own_s)
    if own_s[slowest] <= _TIMES_THE_MEDIAN * median:
        return None
    if own_s[slowest] - median <= _SHARE_OF_A_STEP * step_s:
        return None
    return Straggler(rank=slowest, own_s=own_s[slowest], median_s=median)


class OwnWork:
    """What this rank does of the steps by itself, its input included: the rest is exchange."""

    def __init__(self, world: World) -> None:
        self._world = world
        # The first step warms up, and waits for the first batch.
        self._is_warm = False
        self._own_s = self._elapsed_s = 0.0
        self._num_steps = 0

    def add(self, elapsed_s: float, exchanged_s: float) -> None:
        """Of a step."""
        if self._is_warm:
            self._own_s += elapsed_s - exchanged_s
            self._elapsed_s += elapsed_s
            self._num_steps += 1
        self._is_warm = True

    def straggler(self) -> Straggler | None:
        """By the means over the steps since it was last asked; all ranks ask together."""
        if self._world.size == 1 or not self._num_steps:
            return None
        own_s = self._world.each(self._own_s / self._num_steps)
        step_s = self._elapsed_s / self._num_steps
        self._own_s = self._elapsed_s = 0.0
        self._num_steps = 0
        return find_straggler(own_s, step_s)
