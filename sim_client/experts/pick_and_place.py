"""A feedback expert that picks an object up and puts it somewhere with one arm.

Its motion is a function of the state more than of a clock: heights follow from the horizontal
distance that is left (a funnel over the object, another over the target), so that the same sight
asks for the same motion, which is what makes demonstrations easy to imitate. When a grasp fails or
slips it opens and starts again.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sim_client.experts.motion import OPEN_WIDTH_M, hand_down, turn_between
from sim_client.experts.one_arm import HandGoal, OneArmExpert, OneArmTarget, Phase
from sim_client.station.panda_kinematics import Array
from sim_client.tasks.scene_state import SceneState

_FUNNEL_SLOPE = 6.0
_FUNNEL_RADIUS_M = 0.008
_HOVER_M = 0.10
_GRASP_TOLERANCE_M = 0.009
_GRASP_TOLERANCE_RAD = 0.12
_STILL_WIDTH_M = 0.0015
_LOST_WIDTH_M = 0.012
_RETREAT_M = 0.10
_LEANING_STEPS = 6


@dataclass(frozen=True, kw_only=True, eq=False)
class Grasp:
    """Where to close the fingers: the tool centre point in T (m), and the hand's yaw.

    hold_within_m: how far from there a closed hand may be; farther off it opens again. Round things
    slip from fingers that hold them beside their middle.
    """

    position_m: Array
    yaw_rad: float
    hold_within_m: float = np.inf


@dataclass(frozen=True, kw_only=True, eq=False)
class Placement:
    """Where the object's origin should be when it is let go, and on the way there.

    position_m: in T. carry_height_m: the origin's height while it travels. yaw_rad: the hand's.
    tolerance_m: how near, horizontally, before it is let go.
    """

    position_m: Array
    carry_height_m: float
    yaw_rad: float
    tolerance_m: float


class PickAndPlaceTarget(OneArmTarget, Protocol):
    """What differs between tasks."""

    def grasp(self, state: SceneState) -> Grasp: ...

    def placement(self, state: SceneState) -> Placement: ...

    def placed(self, state: SceneState) -> bool:
        """Whether the object is where it belongs, held or not."""
        ...


class PickAndPlaceExpert(OneArmExpert[PickAndPlaceTarget, Phase]):
    """Drives one arm through grasp, carry, release and retreat; the other arm holds still."""

    def __init__(self, target: PickAndPlaceTarget) -> None:
        super().__init__(target, first=Phase.APPROACH, last=Phase.RETREAT)

    def reset(self) -> None:
        super().reset()
        self._retreat_from_m = np.zeros(3)
        self._retreat_yaw_rad = 0.0

    def _decide(self, state: SceneState, X_TC: Array, width_m: float) -> HandGoal:
        self._switch_phase(state, X_TC, width_m)
        goal_m, yaw_rad, goal_width_m = self._goal(state, X_TC)
        return HandGoal(X_TC=hand_down(goal_m, yaw_rad), width_m=goal_width_m)

    def _switch_phase(self, state: SceneState, X_TC: Array, width_m: float) -> None:
        name = self._target.object_name
        touched = state.fingers_touch(name, side=self._side)
        if self._phase is Phase.APPROACH:
            grasp = self._target.grasp(state)
            far = float(np.linalg.norm(grasp.position_m - X_TC[:3, 3]))
            turn = _turn_to(X_TC, grasp.yaw_rad)
            if far < _GRASP_TOLERANCE_M and np.linalg.norm(turn) < _GRASP_TOLERANCE_RAD:
                self._enter(Phase.CLOSE)
        elif self._phase is Phase.CLOSE:
            grasp = self._target.grasp(state)
            still = abs(width_m - self._last_width_m) < _STILL_WIDTH_M
            if np.linalg.norm(grasp.position_m - X_TC[:3, 3]) > grasp.hold_within_m:
                self._enter(Phase.APPROACH)
            elif touched and still and width_m > _LOST_WIDTH_M and self._steps_in_phase >= 2:
                self._enter(Phase.CARRY)
            elif self._steps_in_phase >= 8:
                self._enter(Phase.APPROACH)
        elif self._phase is Phase.CARRY:
            place = self._target.placement(state)
            offset = place.position_m - state.poses[name][:3, 3]
            if not touched or width_m < _LOST_WIDTH_M:
                self._enter(Phase.APPROACH)
            elif (
                np.linalg.norm(offset[:2]) < place.tolerance_m
                and abs(offset[2]) < 0.008
                and state.speed_m_s(name) < 0.15
            ):
                self._retreat_from_m = X_TC[:3, 3].copy()
                self._retreat_yaw_rad = place.yaw_rad
                self._enter(Phase.RELEASE)
        elif self._phase is Phase.RELEASE:
            # What leans on an open finger is not held any more: the hand withdraws from it.
            free = not touched or self._steps_in_phase >= _LEANING_STEPS
            if free and width_m > 0.9 * OPEN_WIDTH_M:
                self._enter(Phase.RETREAT)
        elif not self._target.placed(state):
            self._enter(Phase.APPROACH)

    def _goal(self, state: SceneState, X_TC: Array) -> tuple[Array, float, float]:
        """Where the tool centre point should head now (m), the hand's yaw, the gripper's width."""
        if self._phase in (Phase.APPROACH, Phase.CLOSE):
            grasp = self._target.grasp(state)
            goal = grasp.position_m.copy()
            if self._phase is Phase.CLOSE:
                return goal, grasp.yaw_rad, 0.0
            off = float(np.linalg.norm(goal[:2] - X_TC[:2, 3]))
            off += 0.08 * float(np.linalg.norm(_turn_to(X_TC, grasp.yaw_rad)))
            goal[2] += min(_HOVER_M, _FUNNEL_SLOPE * max(0.0, off - _FUNNEL_RADIUS_M))
            return goal, grasp.yaw_rad, OPEN_WIDTH_M
        if self._phase is Phase.CARRY:
            place = self._target.placement(state)
            p_TO = state.poses[self._target.object_name][:3, 3]
            offset = place.position_m - p_TO
            off = float(np.linalg.norm(offset[:2]))
            height = place.position_m[2] + _FUNNEL_SLOPE * max(0.0, off - place.tolerance_m)
            offset[2] = min(place.carry_height_m, height) - p_TO[2]
            if off > 0.05:
                # First up, then across: sideways speed grows with the height gained.
                raised = 1.0 - offset[2] / max(place.carry_height_m - place.position_m[2], 1e-6)
                offset[:2] *= float(np.clip(raised, 0.05, 1.0))
            return X_TC[:3, 3] + offset, place.yaw_rad, 0.0
        goal = self._retreat_from_m.copy()
        if self._phase is Phase.RETREAT:
            goal[2] += _RETREAT_M
        return goal, self._retreat_yaw_rad, OPEN_WIDTH_M


def _turn_to(X_TC: Array, yaw_rad: float) -> Array:
    """The rotation vector (rad, in T) from the hand's orientation to tool down at this yaw."""
    return turn_between(X_TC[:3, :3], hand_down(np.zeros(3), yaw_rad)[:3, :3])
