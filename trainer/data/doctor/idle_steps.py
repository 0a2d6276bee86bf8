"""Long stretches in which nothing moves."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import BoolArray, ExaminedEpisode, changes_of
from trainer.data.doctor.finding import Finding, Severity

# Of a field's range over the episode, between two steps.
_STILL = 0.002
_LONG_S = 2.0
_LARGE_PART = 0.2


class IdleSteps(Check):
    """Steps at which neither an action nor an observation changes, at a stretch."""

    name: ClassVar[str] = "idle-steps"

    def __init__(self) -> None:
        self._tally = Tally()

    def look(self, episode: ExaminedEpisode) -> None:
        still = _still(episode)
        if still is None:
            return
        start, stop = _longest(still)
        idle_s = (stop - start) * episode.step_s
        if idle_s >= _LONG_S and still.mean() >= _LARGE_PART:
            self._tally.add(episode, "", float(still.mean()), steps=(start, stop + 1))

    def findings(self) -> list[Finding]:
        return self._tally.findings(
            self.name,
            Severity.WARNING,
            measured=lambda seen: (
                f"nothing moves in up to {seen.worst:.0%} of the steps ({seen.worst_episode})"
            ),
            number="fraction",
            cost="the policy learns to stand still, and one that stands still stays so",
            remedy="cut the idle stretches, at the start and the end above all",
        )


def _still(episode: ExaminedEpisode) -> BoolArray | None:
    """(T - 1,); None where nothing ever moves, which is another check's matter."""
    still = np.ones(max(episode.description.num_steps - 1, 0), dtype=bool)
    seen = False
    for name in episode.names("observed", "action"):
        changes = changes_of(episode.arrays[name])
        if changes is not None:
            seen = True
            still &= changes < _STILL
    return still if seen and len(still) else None


def _longest(still: BoolArray) -> tuple[int, int]:
    edges = np.flatnonzero(np.diff(np.concatenate([[0], still.astype(np.int8), [0]])))
    starts, stops = edges[::2], edges[1::2]
    if not len(starts):
        return 0, 0
    longest = int(np.argmax(stops - starts))
    return int(starts[longest]), int(stops[longest])
