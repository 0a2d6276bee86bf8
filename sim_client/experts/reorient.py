"""A feedback expert that grasps an object, turns it over or on end, and lets it go.

Like the pick-and-place expert, but the hand may come from any direction and turn any way: goals are
full poses of the tool centre point. How far back the hand waits follows from how far beside the
approach axis it still is; how high it carries follows from the distance and the turn that are left.
When a grasp fails or slips it opens and starts again.
"""

from __future__ import annotations

from typing import Protocol

import numpy as np

from sim_client.experts.motion import OPEN_WIDTH_M, turn_between
from sim_client.experts.one_arm import HandGoal, OneArmExpert, OneArmTarget, Phase
from sim_client.station.inverse_kinematics import rotation_from_vector
from sim_client.station.panda_kinematics import Array
from sim_client.tasks.scene_state import SceneState

_FUNNEL_SLOPE = 6.0
_FUNNEL_RADIUS_M = 0.008
_TURN_AS_DISTANCE_M = 0.08
"""A radian of turning that is left keeps the hand as far off as so many metres would."""
_GRASP_TOLERANCE_M = 0.009
_GRASP_TOLERANCE_RAD = 0.12
_LOST_GRASP_M = 0.020
_RELEASE_HEIGHT_TOLERANCE_M = 0.010
_RELEASE_TOLERANCE_RAD = 0.10
_STILL_WIDTH_M = 0.0015
_LOST_WIDTH_M = 0.012
_RETREAT_M = 0.12


class ReorientTarget(OneArmTarget, Protocol):
    """What differs between tasks. Hand poses are X_TC (4, 4) of the tool centre point."""

    @property
    def standoff_m(self) -> float:
        """How far back on its approach axis the hand waits until it is in line."""
        ...

    @property
    def clearance_m(self) -> float:
        """How much higher than that it stays until it is turned and behind the object."""
        ...

    @property
    def carry_height_m(self) -> float:
        """The tool centre point's height while the object turns and travels."""
        ...

    @property
    def tolerance_m(self) -> float:
        """How near to its place, horizontally, before the object goes down."""
        ...

    @property
    def hold_tolerance_rad(self) -> float:
        """How far from the grasp's own orientation the closed hand may hold the object."""
        ...

    def grasp(self, state: SceneState, X_TC: Array) -> Array:
        """Where to close the fingers; X_TC: where the hand is."""
        ...

    def release(self, state: SceneState, X_TC: Array) -> Array:
        """Where to let go, with the object as it now lies in the hand at X_TC.

        Of a turn by more than a right angle the next part alone, since a rotation has no sense of
        direction beyond that.
        """
        ...

    def placed(self, state: SceneState) -> bool:
        """Whether the object is as it should be, held or not."""
        ...


class ReorientExpert(OneArmExpert[ReorientTarget, Phase]):
    """Drives one arm through grasp, turn, release and retreat; the other arm holds still."""

    def __init__(self, target: ReorientTarget) -> None:
        super().__init__(target, first=Phase.APPROACH, last=Phase.RETREAT)

    def reset(self) -> None:
        super().reset()
        self._X_TC_released = np.eye(4)

    def _decide(self, state: SceneState, X_TC: Array, width_m: float) -> HandGoal:
        self._switch_phase(state, X_TC, width_m)
        goal, goal_width_m = self._goal(state, X_TC)
        return HandGoal(X_TC=goal, width_m=goal_width_m)

    def _switch_phase(self, state: SceneState, X_TC: Array, width_m: float) -> None:
        name = self._target.object_name
        touched = state.fingers_touch(name, side=self._side)
        if self._phase is Phase.APPROACH:
            if self._target.placed(state):
                # As after a brush on the way back that the object survived.
                self._X_TC_released = X_TC.copy()
                self._enter(Phase.RETREAT)
                return
            distance_m, turn_rad = _apart(X_TC, self._target.grasp(state, X_TC))
            if distance_m < _GRASP_TOLERANCE_M and turn_rad < _GRASP_TOLERANCE_RAD:
                self._enter(Phase.CLOSE)
        elif self._phase is Phase.CLOSE:
            distance_m, turn_rad = _apart(X_TC, self._target.grasp(state, X_TC))
            still = abs(width_m - self._last_width_m) < _STILL_WIDTH_M
            held = touched and still and width_m > _LOST_WIDTH_M and self._steps_in_phase >= 2
            if held and turn_rad < self._target.hold_tolerance_rad:
                self._enter(Phase.CARRY)
            elif distance_m > _LOST_GRASP_M or self._steps_in_phase >= 8:
                self._enter(Phase.APPROACH)
        elif self._phase is Phase.CARRY:
            goal = self._target.release(state, X_TC)
            offset = goal[:3, 3] - X_TC[:3, 3]
            if not touched or width_m < _LOST_WIDTH_M:
                self._enter(Phase.APPROACH)
            elif (
                np.linalg.norm(offset[:2]) < self._target.tolerance_m
                and abs(offset[2]) < _RELEASE_HEIGHT_TOLERANCE_M
                and _apart(X_TC, goal)[1] < _RELEASE_TOLERANCE_RAD
                and state.speed_m_s(name) < 0.15
            ):
                self._X_TC_released = X_TC.copy()
                self._enter(Phase.RELEASE)
        elif self._phase is Phase.RELEASE:
            # What leans on an open finger rights itself when the hand withdraws.
            free = not touched or self._steps_in_phase >= 6
            if free and width_m > 0.9 * OPEN_WIDTH_M:
                self._enter(Phase.RETREAT)
        elif not self._target.placed(state):
            self._enter(Phase.APPROACH)

    def _goal(self, state: SceneState, X_TC: Array) -> tuple[Array, float]:
        """Where the tool centre point should head now (4, 4), and the gripper's width (m)."""
        if self._phase is Phase.APPROACH:
            grasp = self._target.grasp(state, X_TC)
            return self._behind(grasp, X_TC, self._last_width_m), OPEN_WIDTH_M
        if self._phase is Phase.CLOSE:
            return self._target.grasp(state, X_TC), 0.0
        if self._phase is Phase.CARRY:
            return self._carried(self._target.release(state, X_TC), X_TC), 0.0
        goal = self._X_TC_released.copy()
        if self._phase is Phase.RETREAT:
            goal[:3, 3] -= _RETREAT_M * goal[:3, 2]
        return goal, OPEN_WIDTH_M

    def _behind(self, grasp: Array, X_TC: Array, width_m: float) -> Array:
        """The grasp itself once in line with it and open; before that, back on its axis."""
        target, axis = self._target, grasp[:3, 2]
        from_grasp = X_TC[:3, 3] - grasp[:3, 3]
        ahead_m = float(from_grasp @ axis)
        beside = from_grasp - ahead_m * axis
        turn_m = _TURN_AS_DISTANCE_M * _apart(X_TC, grasp)[1]
        goal = grasp.copy()
        off_m = float(np.linalg.norm(beside)) + turn_m + max(0.0, 0.7 * OPEN_WIDTH_M - width_m)
        goal[:3, 3] -= axis * _funnel(off_m, target.standoff_m)
        # Only what is off along the fingers' line, which is level, counts for the height: the hand
        # would stay up for being up.
        goal[2, 3] += _funnel(abs(float(beside @ grasp[:3, 1])) + turn_m, target.clearance_m)
        return goal

    def _carried(self, release: Array, X_TC: Array) -> Array:
        """Up first, then across and round, and down only where the object belongs."""
        target = self._target
        offset = release[:3, 3] - X_TC[:3, 3]
        turn = turn_between(X_TC[:3, :3], release[:3, :3])
        turn_rad = float(np.linalg.norm(turn))
        left_m = max(0.0, float(np.linalg.norm(offset[:2])) - target.tolerance_m)
        left_m += 0.3 * max(0.0, turn_rad - 0.5 * _RELEASE_TOLERANCE_RAD)
        rise_m = max(target.carry_height_m - release[2, 3], 1e-6)
        height_m = release[2, 3] + min(rise_m, _FUNNEL_SLOPE * left_m)
        raised = float(np.clip(1.0 - 1.5 * (height_m - X_TC[2, 3]) / rise_m, 0.05, 1.0))
        goal = np.eye(4)
        goal[:3, :3] = rotation_from_vector(raised * turn) @ X_TC[:3, :3]
        goal[:2, 3] = X_TC[:2, 3] + raised * offset[:2]
        goal[2, 3] = height_m
        return goal


def _funnel(off_m: float, most_m: float) -> float:
    return min(most_m, _FUNNEL_SLOPE * max(0.0, off_m - _FUNNEL_RADIUS_M))


def _apart(X_TC: Array, goal: Array) -> tuple[float, float]:
    """Distance (m) and angle (rad) between two poses of the hand."""
    distance_m = float(np.linalg.norm(goal[:3, 3] - X_TC[:3, 3]))
    return distance_m, float(np.linalg.norm(turn_between(X_TC[:3, :3], goal[:3, :3])))
