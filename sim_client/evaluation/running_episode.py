"""An episode that a simulator runs, as whoever watches the simulator knows it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Protocol

from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest, Stopwatch
from step_analysis.rollouts import Outcome


@dataclass
class RunningEpisode:
    """deadline_s: on the monotonic clock, when the simulator's silence means that it hangs."""

    request: EpisodeRequest
    deadline_s: float
    stopwatch: Stopwatch = field(default_factory=Stopwatch)

    def lost(self, message: str) -> EpisodeReport:
        """The report of an attempt that its simulator has not survived: no verdict."""
        return EpisodeReport(
            outcome=Outcome.ERROR,
            started_at=self.stopwatch.started_at,
            wall_s=self.stopwatch.wall_s,
            message=message,
        )


class RunsEpisodes(Protocol):
    """A simulator, wherever it is, that runs one episode at a time or none."""

    @property
    def running(self) -> object | None: ...


def num_running(simulators: Iterable[RunsEpisodes]) -> int:
    """How many of them run an episode now."""
    return sum(simulator.running is not None for simulator in simulators)
