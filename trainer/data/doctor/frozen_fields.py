"""Fields that never change."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from trainer.data.doctor.check import Check, Tally
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity

# Of a field's greatest change over an episode: less is a sensor's last digit.
_STILL = 1e-9


class FrozenFields(Check):
    """A sensor that stands still while its part is commanded to move is dead.

    One that never changes in any episode, such as the idle arm of a one-armed task, only carries
    nothing.
    """

    name: ClassVar[str] = "frozen-field"

    def __init__(self) -> None:
        self._tally = Tally()
        self._moved: dict[str, bool] = {}
        self._episodes = 0

    def look(self, episode: ExaminedEpisode) -> None:
        if episode.description.num_steps < 2:
            return
        self._episodes += 1
        moves = {name: _moves(episode, name) for name in episode.arrays}
        for name in episode.names("observed", "desired", "action"):
            self._moved[name] = self._moved.get(name, False) or moves[name]
        for name in episode.names("observed"):
            commands = _commands(episode, name)
            if not moves[name] and any(moves[command] for command in commands):
                self._tally.add(episode, name, float(episode.description.num_steps))

    def findings(self) -> list[Finding]:
        dead = self._tally.findings(
            self.name,
            Severity.ERROR,
            measured=lambda seen: "stands still while its part is commanded to move",
            number="num_steps",
            cost="the policy learns to ignore this sensor, or fails once it works",
            remedy="find why it was not recorded; leave these episodes or the field out",
        )
        told = {finding.subject for finding in dead}
        still = [name for name, moved in self._moved.items() if not moved and name not in told]
        if not still or not self._episodes:
            return dead
        return [
            *dead,
            Finding(
                check=self.name,
                severity=Severity.NOTE,
                subject=", ".join(still),
                measured=f"constant in all {self._episodes} episodes",
                numbers={"num_fields": len(still)},
                cost="they carry nothing, and a normalisation without an epsilon divides by zero",
                remedy="leave them out, or keep an epsilon in the normalisation",
            ),
        ]


def _moves(episode: ExaminedEpisode, name: str) -> bool:
    values = episode.arrays[name].reshape(episode.description.num_steps, -1)
    finite = values[np.isfinite(values).all(axis=1)]
    return len(finite) == 0 or bool((np.ptp(finite, axis=0) > _STILL).any())


def _commands(episode: ExaminedEpisode, name: str) -> list[str]:
    """The actions of the same part and kind."""
    fields = episode.description.fields
    field = fields[name]
    return [
        other
        for other in episode.names("action")
        if fields[other].kind == field.kind
        and fields[other].part == field.part
        and field.part is not None
    ]
