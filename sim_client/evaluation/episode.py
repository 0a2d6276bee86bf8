"""One episode, closed loop: observe, ask the policy, step, until the task is decided."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from policy_interface.client_errors import PolicyServerError
from policy_interface.contract import Contract, ContractError, action_violations
from policy_interface.types import Action, Observation, RobotState
from sim_client.action_vector import action_from_vector, action_to_vector
from sim_client.evaluation.episode_files import EpisodeFiles
from sim_client.evaluation.policy_session import Answer, Policy, PolicyFaultError
from sim_client.evaluation.station import Station
from step_analysis.policy_latency import PolicyLatency
from step_analysis.rollouts import Outcome

# An action this close to where the arms began moves nothing that anybody would call a motion.
_STILL_M, _STILL_ROTATION = 1e-3, 1e-2


@dataclass(frozen=True, kw_only=True)
class EpisodeRequest:
    """One episode to run. folder: where its files go. record: whether pictures are among them.

    policy: whose, where a worker serves several; empty where there is one.
    """

    task: str
    scenario_index: int
    seed: int
    max_control_steps: int
    folder: Path
    record: bool = False
    policy: str = ""

    def __str__(self) -> str:
        return f"{self.task} episode {self.scenario_index}"


@dataclass(frozen=True, kw_only=True)
class EpisodeReport:
    """What became of one attempt at an episode; see RolloutRecord for the fields.

    simulator: what it ran on, by name; empty where that did not come to be, or tells nothing.
    """

    outcome: Outcome
    started_at: str
    wall_s: float
    duration_s: float | None = None
    num_control_steps: int | None = None
    message: str | None = None
    detail: Mapping[str, float | bool | str] = field(default_factory=dict)
    progress: float | None = None
    instruction: str | None = None
    first_inference_s: float | None = None
    policy_latency: PolicyLatency | None = None
    state_digest: str | None = None
    simulator: Mapping[str, str] = field(default_factory=dict)


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


# Errors that leave the station as good as it was: the fault is the policy's server's, or the
# scenario's.
STATION_IS_SOUND = (PolicyServerError, ContractError, DecidedBeforeStartError)


def run_episode(
    request: EpisodeRequest,
    *,
    station: Station,
    policy: Policy,
    cameras: Iterable[str],
    files: EpisodeFiles,
    heartbeat: Callable[[], None],
) -> EpisodeReport:
    """Run one episode and say how it ended: success, failure or timeout.

    An answer that is no action fails the episode: that is the policy's doing.

    cameras: those that the policy is shown, of the station's. files: what the episode leaves
    behind. `heartbeat` is called before each piece of work that could hang.

    Raises whatever the station, the policy's server or the disk raise, and
    DecidedBeforeStartError: none of these is a verdict on the policy.
    """
    stopwatch = Stopwatch()
    watch = _PolicyWatch(policy, cameras)
    heartbeat()
    policy.reset(seed=request.seed)
    with files:
        try:
            end = _act(request, station, watch, files, heartbeat)
        except (*STATION_IS_SOUND, OSError):
            raise
        except (Exception, SystemExit) as error:
            # SystemExit is how Drake's bindings raise a failed assertion of Drake's. The error
            # matters more than whether there is room for what led to it.
            with contextlib.suppress(OSError):
                files.save_error(str(error))
            raise
        files.save()
    status = station.status()
    return EpisodeReport(
        outcome=end.outcome,
        started_at=stopwatch.started_at,
        wall_s=stopwatch.wall_s,
        duration_s=float(station.time_s),
        num_control_steps=end.num_control_steps,
        message=end.message or _message(end.outcome, station.time_s),
        detail={name: _scalar(value) for name, value in status.predicates.items()},
        progress=float(status.progress),
        instruction=station.instruction,
        first_inference_s=watch.first_inference_s,
        policy_latency=PolicyLatency.of(watch.latencies_s),
        state_digest=station.state_digest(),
    )


@dataclass(frozen=True, kw_only=True)
class _End:
    outcome: Outcome
    num_control_steps: int
    message: str | None = None


def _act(
    request: EpisodeRequest,
    station: Station,
    watch: _PolicyWatch,
    files: EpisodeFiles,
    heartbeat: Callable[[], None],
) -> _End:
    heartbeat()
    station.reset(request.seed)
    status = station.status()
    if status.success or status.failed:
        raise DecidedBeforeStartError(
            f"the scenario of seed {request.seed} is {'solved' if status.success else 'lost'} "
            "at t = 0, before the policy has acted"
        )
    files.begin(station)
    for num_steps in range(request.max_control_steps):
        heartbeat()
        observation = station.observe()
        try:
            action = watch.ask(observation, station.contract)
        except PolicyFaultError as error:
            return _End(outcome=Outcome.FAILURE, num_control_steps=num_steps, message=str(error))
        # Executed is what the log can say, to the last bit.
        vector = action_to_vector(action)
        files.add(observation, vector)
        status = station.step(action_from_vector(vector))
        files.note_step(station)
        if status.success or status.failed:
            outcome = Outcome.SUCCESS if status.success else Outcome.FAILURE
            return _End(outcome=outcome, num_control_steps=num_steps + 1)
    return _End(outcome=Outcome.TIMEOUT, num_control_steps=request.max_control_steps)


class _PolicyWatch:
    """Asks for actions and notes how long that took, and when the policy began to plan.

    A server that does not say when it plans is taken to begin with the first action that moves an
    arm: no earlier than that can be known of it, and a plan to hold still passes unseen.
    """

    def __init__(self, policy: Policy, cameras: Iterable[str]) -> None:
        self._policy = policy
        self._cameras = frozenset(cameras)
        self.latencies_s: list[float] = []
        self.first_inference_s: float | None = None
        self._start: Observation | None = None

    def ask(self, observation: Observation, contract: Contract) -> Action:
        """Raises PolicyFaultError for what can't be executed."""
        self._start = self._start or observation
        shown = _shown(observation, self._cameras)
        asked_s = time.monotonic()
        answer = self._policy.step(shown)
        self.latencies_s.append(time.monotonic() - asked_s)
        missing = action_violations(contract, answer.action)
        if missing:
            raise PolicyFaultError(f"the policy's answer is no action: {'; '.join(missing)}")
        if self.first_inference_s is None and self._plans(answer, self._start):
            self.first_inference_s = observation.time_s
        return answer.action

    def _plans(self, answer: Answer, start: Observation) -> bool:
        if answer.begins_plan is not None:
            return answer.begins_plan
        # A server may hold the arms where they are, or where they were last told to be.
        return _moves(answer.action, start.actual) and _moves(answer.action, start.desired)


def _moves(action: Action, state: RobotState) -> bool:
    for name, pose in action.poses.items():
        there = state.poses.get(name)
        if there is None:
            continue
        if np.linalg.norm(pose.translation_m - there.translation_m) > _STILL_M:
            return True
        if np.abs(pose.rotation - there.rotation).max() > _STILL_ROTATION:
            return True
    return any(
        abs(width_m - state.gripper_widths_m.get(name, width_m)) > _STILL_M
        for name, width_m in action.gripper_widths_m.items()
    )


def _shown(observation: Observation, cameras: frozenset[str]) -> Observation:
    """Without the cameras that are rendered for a video alone."""
    if cameras == observation.cameras.keys():
        return observation
    views = {name: view for name, view in observation.cameras.items() if name in cameras}
    return replace(observation, cameras=views)


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
