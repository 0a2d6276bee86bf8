"""An episode's actions once more, in a station of its own, compared state by state."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from sim_client.action_vector import action_from_vector, action_to_vector
from sim_client.evaluation.action_log import ActionLog
from sim_client.evaluation.station import Station

ShowStep = Callable[[], None]


@dataclass(frozen=True, kw_only=True)
class Difference:
    """The first state that is another one than it was.

    step: how many control steps led to it; 0 is the scene as it was reset. off_by: how far the
    arms and grippers are from where they were measured, the greatest of metres, of elements of a
    rotation and of widths; None where the log ends there.
    """

    step: int
    time_s: float
    off_by: float | None


@dataclass(frozen=True, kw_only=True)
class Replay:
    """What became of it. broke: why the simulation could not take the last step, if so."""

    num_steps: int
    num_states_compared: int
    first_difference: Difference | None
    broke: str | None = None

    @property
    def is_equal(self) -> bool:
        return self.first_difference is None


def simulate_again(log: ActionLog, station: Station, *, show: ShowStep = lambda: None) -> Replay:
    """Execute the logged actions from the logged seed.

    show: called at the start and after each step. It goes on to the end even after a difference.
    """
    station.reset(log.seed)
    first: Difference | None = None
    for step in range(len(log.actions) + 1):
        show()
        if step < len(log.state_digests) and first is None:
            expected = log.state_digests[step].tobytes().hex()
            if station.state_digest() != expected:
                first = Difference(
                    step=step, time_s=station.time_s, off_by=_off_by(log, station, step)
                )
        if step == len(log.actions):
            break
        try:
            station.step(action_from_vector(log.actions[step]))
        except RuntimeError as error:
            return _replay(log, step, first, broke=str(error))
    return _replay(log, len(log.actions), first)


def _replay(
    log: ActionLog, num_steps: int, first: Difference | None, *, broke: str | None = None
) -> Replay:
    return Replay(
        num_steps=num_steps,
        num_states_compared=min(num_steps + 1, len(log.state_digests)),
        first_difference=first,
        broke=broke,
    )


def _off_by(log: ActionLog, station: Station, step: int) -> float | None:
    if step >= len(log.measured):
        return None
    return float(np.abs(action_to_vector(station.observe().actual) - log.measured[step]).max())
