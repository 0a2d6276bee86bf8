"""What every expert with one arm at work shares: it chooses the arm, and acts in phases."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import Enum
from typing import Generic, Protocol, TypeVar

from policy_interface.types import Action, RobotState
from sim_client.experts.motion import OPEN_WIDTH_M, ArmMotion, gripper_width_m, tool_pose
from sim_client.station.panda_kinematics import Array
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES
from sim_client.tasks.scene_state import SceneState

_STEPS_AWAY = 5
"""In its last phase the hand is away from the object after so many control steps."""


class Phase(Enum):
    """Of experts that grasp."""

    APPROACH = "approach"
    CLOSE = "close"
    CARRY = "carry"
    RELEASE = "release"
    RETREAT = "retreat"


class OneArmTarget(Protocol):
    """What differs between tasks."""

    @property
    def object_name(self) -> str: ...

    def side(self, state: SceneState) -> str:
        """Which arm, "right" or "left"; asked once, at an episode's first step."""
        ...


@dataclass(frozen=True, kw_only=True, eq=False)
class HandGoal:
    """Where the tool centre point should head now, and how wide the gripper should be.

    max_step_m: the way in one control step, where it should be shorter than the arm's own.
    """

    X_TC: Array
    width_m: float
    max_step_m: float | None = None


_Target = TypeVar("_Target", bound=OneArmTarget)
_Phase = TypeVar("_Phase", bound=Enum)


class OneArmExpert(ABC, Generic[_Target, _Phase]):
    """Drives one arm from its first phase to its last; the other arm holds still."""

    def __init__(self, target: _Target, *, first: _Phase, last: _Phase) -> None:
        self._target = target
        self._first, self._last = first, last
        self._motion = ArmMotion()
        self.reset()

    def reset(self) -> None:
        self._side: str | None = None
        self._held: Action | None = None
        self._phase = self._first
        self._motion.reset()
        self._last_width_m = OPEN_WIDTH_M
        self._steps_in_phase = 0

    @property
    def phase(self) -> _Phase:
        return self._phase

    @property
    def arms(self) -> tuple[str, ...]:
        return () if self._side is None else (ARM_NAMES[self._side],)

    @property
    def finished(self) -> bool:
        return self._phase is self._last and self._steps_in_phase >= _STEPS_AWAY

    def act(self, state: SceneState, actual: RobotState, desired: RobotState) -> Action:
        if self._side is None or self._held is None:
            self._side = self._target.side(state)
            self._held = Action(poses=desired.poses, gripper_widths_m=desired.gripper_widths_m)
        arm, gripper = ARM_NAMES[self._side], GRIPPER_NAMES[self._side]
        X_TC, width_m = tool_pose(self._side, actual), gripper_width_m(self._side, actual)
        goal = self._decide(state, X_TC, width_m)
        flange = self._motion.toward(X_TC, goal.X_TC, max_step_m=goal.max_step_m)
        self._last_width_m = width_m
        self._steps_in_phase += 1
        return Action(
            poses={**self._held.poses, arm: flange},
            gripper_widths_m={**self._held.gripper_widths_m, gripper: goal.width_m},
        )

    @abstractmethod
    def _decide(self, state: SceneState, X_TC: Array, width_m: float) -> HandGoal:
        """Enter the phase that the state asks for, and say where the hand should go in it."""

    def _enter(self, phase: _Phase) -> None:
        self._phase = phase
        self._steps_in_phase = 0
