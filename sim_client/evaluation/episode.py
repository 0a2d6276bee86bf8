"""One episode, closed loop: observe, ask the policy, step, until the task is decided."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Protocol

from policy_interface.contract import Contract
from policy_interface.types import Action, Observation
from sim_client.evaluation.rollout_recorder import RolloutRecorder
from step_analysis.rollouts import Outcome


@dataclass(frozen=True, kw_only=True)
class EpisodeRequest:
    """One episode to run. recording_folder: where its video goes, if wanted."""

    task: str
    scenario_index: int
    seed: int
    max_control_steps: int
    recording_folder: Path | None = None

    def __str__(self) -> str:
        return f"{self.task} episode {self.scenario_index}"


@dataclass(frozen=True, kw_only=True)
class EpisodeReport:
    """What became of one attempt at an episode."""

    outcome: Outcome
    started_at: str
    wall_s: float
    duration_s: float | None = None
    num_control_steps: int | None = None
    message: str | None = None
    detail: Mapping[str, float | bool | str] = field(default_factory=dict)


class Status(Protocol):
    """How a task stands; see sim_client.tasks.task.TaskStatus."""

    @property
    def success(self) -> bool: ...

    @property
    def failed(self) -> bool: ...

    @property
    def predicates(self) -> Mapping[str, bool | float]: ...


class Station(Protocol):
    """Where an episode takes place; see sim_client.station.station.Station."""

    @property
    def contract(self) -> Contract: ...

    @property
    def time_s(self) -> float: ...

    def reset(self, seed: int) -> None: ...

    def observe(self) -> Observation: ...

    def step(self, action: Action) -> Status: ...

    def status(self) -> Status: ...


class Policy(Protocol):
    """Who acts; see policy_interface.client.PolicyClient."""

    def reset(self, *, seed: int) -> None: ...

    def step(self, observation: Observation) -> Action: ...


class DecidedBeforeStartError(RuntimeError):
    """A scenario that is solved or lost before the policy has done anything."""


class Stopwatch:
    """When an attempt began, and how long ago that is."""

    def __init__(self) -> None:
        self.started_at = datetime.now(UTC).isoformat(timespec="milliseconds")
        self._start_s = time.monotonic()

    @property
    def wall_s(self) -> float:
        return round(time.monotonic() - self._start_s, 3)


def run_episode(
    request: EpisodeRequest,
    *,
    station: Station,
    policy: Policy,
    heartbeat: Callable[[], None],
) -> EpisodeReport:
    """Run one episode and say how it ended: success, failure or timeout.

    `heartbeat` is called before each piece of work that could hang.

    Raises whatever the station, the policy's client or the disk raise, and
    DecidedBeforeStartError: none of these is a verdict on the policy.
    """
    stopwatch = Stopwatch()
    heartbeat()
    policy.reset(seed=request.seed)
    heartbeat()
    station.reset(request.seed)
    status = station.status()
    if status.success or status.failed:
        raise DecidedBeforeStartError(
            f"the scenario of seed {request.seed} is {'solved' if status.success else 'lost'} "
            "at t = 0, before the policy has acted"
        )
    outcome = Outcome.TIMEOUT
    num_control_steps = 0
    with RolloutRecorder(request.recording_folder) as recorder:
        while num_control_steps < request.max_control_steps:
            heartbeat()
            observation = station.observe()
            action = policy.step(observation)
            recorder.add(observation, action)
            status = station.step(action)
            num_control_steps += 1
            if status.success or status.failed:
                outcome = Outcome.SUCCESS if status.success else Outcome.FAILURE
                break
        recorder.save()
    return EpisodeReport(
        outcome=outcome,
        started_at=stopwatch.started_at,
        wall_s=stopwatch.wall_s,
        duration_s=float(station.time_s),
        num_control_steps=num_control_steps,
        message=_message(outcome, station.time_s),
        detail={name: _scalar(value) for name, value in status.predicates.items()},
    )


def _message(outcome: Outcome, time_s: float) -> str | None:
    if outcome is Outcome.TIMEOUT:
        return f"timeout: not done after {time_s:.1f} s"
    if outcome is Outcome.FAILURE:
        return f"the task could no longer be done after {time_s:.1f} s"
    return None


def _scalar(value: bool | float) -> bool | float | str:
    """A predicate as JSON can keep it: numpy's scalars are none, and NaN is no number there."""
    if isinstance(value, (bool, int)):
        return value
    if type(value).__name__ in ("bool", "bool_"):
        return bool(value)
    number = float(value)
    return number if abs(number) < float("inf") else str(number)
