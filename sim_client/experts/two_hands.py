"""A feedback expert that takes an object between two hands, carries it and sets it down.

Where the hands belong is a function of where the object is; carrying it is asking for the hands'
places at an object a little farther on. So the hands move as one body, and either corrects what
noise did to it while the other follows. What is lost is taken again.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

import numpy as np

from policy_interface.types import Action, RobotState
from sim_client.experts.motion import ArmMotion, gripper_width_m, tool_pose, turn_between
from sim_client.station.inverse_kinematics import rotation_from_vector
from sim_client.station.panda_kinematics import Array
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES
from sim_client.station.workspace import SIDES
from sim_client.tasks.scene_state import SceneState

Hands = Mapping[str, Array]
"""X_TC (4, 4) of the tool centre point by side."""

_FUNNEL_SLOPE = 5.0
_FUNNEL_RADIUS_M = 0.012
_HOVER_M = 0.10
_READY_TOLERANCE_M = 0.012
_READY_TOLERANCE_RAD = 0.15
_MIN_CLOSING_STEPS = 3
_MAX_CLOSING_STEPS = 15
_MAX_RELEASE_STEPS = 12
_MAX_STEPS_UNTOUCHED = 3
_AHEAD_M = 0.028
_AHEAD_RAD = 0.25
# Hands that hold together correct almost all at once what took them apart. The greatest step is
# above what carrying and pressing ask for together, or the hand behind would press less.
_FIRM_GAIN = 0.9
_FIRM_STEP_M = 0.045
_FIRM_ACCELERATION_M = 0.030
_CLOSING_STEP_M = 0.018
_RETREAT_M = 0.10
_RETREAT_STEPS = 6


class Phase(Enum):
    APPROACH = "approach"
    CLOSE = "close"
    CARRY = "carry"
    RELEASE = "release"
    RETREAT = "retreat"


@dataclass(frozen=True, kw_only=True, eq=False)
class SetDown:
    """Where the object should be when it is let go, and on the way there.

    X_TO: (4, 4). carry_height_m: the origin's height while it travels. tolerance_m: how near,
    horizontally, before it is let go.
    """

    X_TO: Array
    carry_height_m: float
    tolerance_m: float


class TwoHandTarget(Protocol):
    """What differs between tasks.

    open_width_m, closed_width_m: asked of both grippers, without the object and with it.
    held_width_m: the widest that they are once they hold it.
    """

    @property
    def object_name(self) -> str: ...

    @property
    def open_width_m(self) -> float: ...

    @property
    def closed_width_m(self) -> float: ...

    @property
    def held_width_m(self) -> float: ...

    def ready(self, X_TO: Array) -> Hands:
        """Where the hands are before they take an object that is at X_TO, and after."""
        ...

    def holding(self, X_TO: Array) -> Hands:
        """Where they are sent to hold it there: where they press, beyond its surface."""
        ...

    def set_down(self, state: SceneState) -> SetDown: ...

    def placed(self, state: SceneState) -> bool:
        """Whether the object is where it belongs, held or not."""
        ...


class TwoHandExpert:
    """Takes the targets in their order, each until it is placed."""

    def __init__(self, targets: Sequence[TwoHandTarget]) -> None:
        self._targets = tuple(targets)
        self._free = {side: ArmMotion() for side in SIDES}
        self._firm = {
            side: ArmMotion(
                max_step_m=_FIRM_STEP_M, max_acceleration_m=_FIRM_ACCELERATION_M, gain=_FIRM_GAIN
            )
            for side in SIDES
        }
        self.reset()

    def reset(self) -> None:
        self._target = self._targets[0]
        self._enter(Phase.APPROACH)
        self._steps_untouched = 0
        self._released: Hands = {}

    @property
    def phase(self) -> Phase:
        return self._phase

    @property
    def arms(self) -> tuple[str, ...]:
        return tuple(ARM_NAMES[side] for side in SIDES)

    @property
    def finished(self) -> bool:
        return self._phase is Phase.RETREAT and self._steps_in_phase >= _RETREAT_STEPS

    def act(self, state: SceneState, actual: RobotState, desired: RobotState) -> Action:
        hands = {side: tool_pose(side, actual) for side in SIDES}
        self._switch_phase(state, actual, hands)
        goals, width_m, max_step_m = self._goals(state, hands)
        self._steps_in_phase += 1
        motions = self._firm if self._phase is Phase.CARRY else self._free
        return Action(
            poses={
                ARM_NAMES[side]: motions[side].toward(
                    hands[side], goals[side], max_step_m=max_step_m
                )
                for side in SIDES
            },
            gripper_widths_m={GRIPPER_NAMES[side]: width_m for side in SIDES},
        )

    def _enter(self, phase: Phase) -> None:
        if phase in (Phase.APPROACH, Phase.CARRY, Phase.RELEASE):
            # Between holding and moving freely a hand starts from rest.
            for motion in (*self._free.values(), *self._firm.values()):
                motion.reset()
        self._phase = phase
        self._steps_in_phase = 0

    def _switch_phase(self, state: SceneState, actual: RobotState, hands: Hands) -> None:
        name = self._target.object_name
        X_TO = state.poses[name]
        touched = all(state.fingers_touch(name, side=side) for side in SIDES)
        self._steps_untouched = 0 if touched else self._steps_untouched + 1
        if self._phase is Phase.APPROACH:
            if self._target.placed(state):
                # It fell to where it belongs.
                self._released = hands
                self._enter(Phase.RETREAT)
            elif all(_near(hands[side], X) for side, X in self._target.ready(X_TO).items()):
                self._enter(Phase.CLOSE)
        elif self._phase is Phase.CLOSE:
            widest_m = max(gripper_width_m(side, actual) for side in SIDES)
            held = touched and widest_m < self._target.held_width_m
            if held and self._steps_in_phase >= _MIN_CLOSING_STEPS:
                self._enter(Phase.CARRY)
            elif self._steps_in_phase >= _MAX_CLOSING_STEPS:
                self._enter(Phase.APPROACH)
        elif self._phase is Phase.CARRY:
            if self._steps_untouched >= _MAX_STEPS_UNTOUCHED:
                self._enter(Phase.APPROACH)
            elif self._arrived(state):
                self._released = self._target.ready(X_TO)
                self._enter(Phase.RELEASE)
        elif self._phase is Phase.RELEASE:
            is_open = all(
                gripper_width_m(side, actual) > self._target.open_width_m - 0.004 for side in SIDES
            )
            free = not any(state.fingers_touch(name, side=side) for side in SIDES)
            away = all(_near(hands[side], X) for side, X in self._released.items())
            # What leans on a hand that waits for it to come free leans for ever.
            if (is_open and free and away) or self._steps_in_phase >= _MAX_RELEASE_STEPS:
                self._enter(Phase.RETREAT)
        else:
            self._choose_target(state)

    def _choose_target(self, state: SceneState) -> None:
        """The first that isn't placed; the hands first leave the one before."""
        left_to_do = [target for target in self._targets if not target.placed(state)]
        if left_to_do and (left_to_do[0] is self._target or self._steps_in_phase >= _RETREAT_STEPS):
            self._target = left_to_do[0]
            self._enter(Phase.APPROACH)

    def _arrived(self, state: SceneState) -> bool:
        name = self._target.object_name
        goal = self._target.set_down(state)
        offset = goal.X_TO[:3, 3] - state.position_m(name)
        return (
            float(np.linalg.norm(offset[:2])) < goal.tolerance_m
            and abs(float(offset[2])) < 0.008
            and state.speed_m_s(name) < 0.15
        )

    def _goals(self, state: SceneState, hands: Hands) -> tuple[Hands, float, float | None]:
        """Where the hands should head, the grippers' width, and a lower speed where needed."""
        target = self._target
        X_TO = state.poses[target.object_name]
        if self._phase is Phase.APPROACH:
            ready = target.ready(X_TO)
            # Rising with both hands at it would lift it, wedged between fingers that don't hold it.
            wedged = all(state.fingers_touch(target.object_name, side=side) for side in SIDES)
            goals = ready if wedged else {s: _from_above(hands[s], ready[s]) for s in SIDES}
            return goals, target.open_width_m, None
        if self._phase is Phase.CLOSE:
            return target.holding(X_TO), target.closed_width_m, _CLOSING_STEP_M
        if self._phase is Phase.CARRY:
            return target.holding(self._ahead(state)), target.closed_width_m, None
        goals = {side: X.copy() for side, X in self._released.items()}
        if self._phase is Phase.RELEASE:
            return goals, target.open_width_m, _CLOSING_STEP_M
        for X in goals.values():
            X[2, 3] += _RETREAT_M
        return goals, target.open_width_m, None

    def _ahead(self, state: SceneState) -> Array:
        """X_TO of the object a little farther on its way: up, across, down."""
        X_TO = state.poses[self._target.object_name]
        goal = self._target.set_down(state)
        low_m = float(goal.X_TO[2, 3])
        offset = goal.X_TO[:3, 3] - X_TO[:3, 3]
        off = float(np.linalg.norm(offset[:2]))
        height_m = low_m + _FUNNEL_SLOPE * max(0.0, off - goal.tolerance_m / 2)
        offset[2] = min(goal.carry_height_m, height_m) - X_TO[2, 3]
        if off > 0.05:
            # First up, then across: sideways speed grows with the height gained.
            raised = 1.0 - offset[2] / max(goal.carry_height_m - low_m, 1e-6)
            offset[:2] *= float(np.clip(raised, 0.05, 1.0))
        turn = turn_between(X_TO[:3, :3], goal.X_TO[:3, :3])
        X_ahead = np.eye(4)
        X_ahead[:3, :3] = rotation_from_vector(_capped(turn, _AHEAD_RAD)) @ X_TO[:3, :3]
        X_ahead[:3, 3] = X_TO[:3, 3] + _capped(offset, _AHEAD_M)
        return X_ahead


def _capped(vector: Array, length: float) -> Array:
    return vector * min(1.0, length / max(float(np.linalg.norm(vector)), 1e-9))


def _near(X_TC: Array, X_TC_goal: Array) -> bool:
    far_m = float(np.linalg.norm(X_TC_goal[:3, 3] - X_TC[:3, 3]))
    turn_rad = float(np.linalg.norm(turn_between(X_TC[:3, :3], X_TC_goal[:3, :3])))
    return far_m < _READY_TOLERANCE_M and turn_rad < _READY_TOLERANCE_RAD


def _from_above(X_TC: Array, X_TC_goal: Array) -> Array:
    """The goal, raised while the hand isn't over it yet."""
    off = float(np.linalg.norm(X_TC_goal[:2, 3] - X_TC[:2, 3]))
    off += 0.05 * float(np.linalg.norm(turn_between(X_TC[:3, :3], X_TC_goal[:3, :3])))
    raised = X_TC_goal.copy()
    raised[2, 3] += min(_HOVER_M, _FUNNEL_SLOPE * max(0.0, off - _FUNNEL_RADIUS_M))
    return raised
