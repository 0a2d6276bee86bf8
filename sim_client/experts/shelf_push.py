"""A feedback expert that pushes a box under a shelf with both hands, one at either end.

Fingers closed, the hands push the face that the arms see. Friction keeps them where they touch, so
the box moves as they do: ahead, a little sideways toward the shelf's middle line, and round by what
one hand is ahead of the other.
"""

from __future__ import annotations

from enum import Enum

import numpy as np

from policy_interface.types import Action, RobotState
from sim_client.experts.motion import ArmMotion, hand_down, tilted, tool_pose
from sim_client.manipulands.cereal_box import CerealBox
from sim_client.manipulands.shelf import Shelf
from sim_client.station.panda_kinematics import Array
from sim_client.station.panda_model import PAD_SIZE_M
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES
from sim_client.station.workspace import SIDES
from sim_client.tasks.scene_state import SceneState, yaw_of
from sim_client.tasks.task import Task

_LEAN_RAD = float(np.deg2rad(20.0))
"""The palm leans back from the shelf's board."""
_HAND_HEIGHT_M = 0.028
_FROM_END_M = 0.030
"""Of the box, to the middle of the fingers: as far apart as that keeps two hands' palms clear."""
_FINGERS_HALF_M = PAD_SIZE_M[0] / 2
_STANDOFF_M = 0.025
_IN_PLACE_M = 0.035
_HOVER_M = 0.11
_FUNNEL_SLOPE = 6.0
_FUNNEL_RADIUS_M = 0.012
_LEAD_M = 0.028
"""How far ahead of the touching fingers their goal is: the speed, times the arm's lag."""
_MOST_SIDEWAYS_M = 0.010
"""Beside that, within the cone in which the fingers stick to the face."""
_SHORT_OF_FLUSH_M = 0.020
_DONE_M = 0.004
_RETREAT_STEPS = 7


class Phase(Enum):
    PUSH = "push"
    RETREAT = "retreat"


class ShelfPushExpert:
    """Drives both arms; its memory is whether it is done and where the hands were then."""

    def __init__(
        self, task: Task, *, box_name: str = "cereal_box", shelf_name: str = "shelf"
    ) -> None:
        self._task = task
        self._box_name, self._shelf_name = box_name, shelf_name
        box, shelf = task.objects_by_name[box_name], task.objects_by_name[shelf_name]
        assert isinstance(box, CerealBox)
        assert isinstance(shelf, Shelf)
        self._box, self._shelf = box, shelf
        self._motions = {side: ArmMotion() for side in SIDES}
        self.reset()

    def reset(self) -> None:
        self._phase = Phase.PUSH
        self._steps_in_phase = 0
        self._X_TC_done: dict[str, Array] = {}
        for motion in self._motions.values():
            motion.reset()

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
        self._switch_phase(state, hands)
        if self._phase is Phase.PUSH:
            goals = self._pushing(state, hands)
        else:
            goals = {side: _away(X_TC) for side, X_TC in self._X_TC_done.items()}
        self._steps_in_phase += 1
        return Action(
            poses={
                ARM_NAMES[side]: self._motions[side].toward(hands[side], goals[side])
                for side in SIDES
            },
            gripper_widths_m={GRIPPER_NAMES[side]: 0.0 for side in SIDES},
        )

    def _switch_phase(self, state: SceneState, hands: dict[str, Array]) -> None:
        if self._phase is Phase.PUSH:
            if self._left_m(state) < _DONE_M:
                self._phase, self._steps_in_phase = Phase.RETREAT, 0
                self._X_TC_done = hands
        elif not self._task.measure(state)[f"{self._box_name}_in_{self._shelf_name}"].holds:
            self._phase, self._steps_in_phase = Phase.PUSH, 0

    def _left_m(self, state: SceneState) -> float:
        """How far the box must still go along the shelf's x axis."""
        almost_flush = (self._box.size_m[0] - self._shelf.inner_m[0]) / 2 - _SHORT_OF_FLUSH_M
        return almost_flush - float(state.pose_in(self._shelf_name, self._box_name)[0, 3])

    def _pushing(self, state: SceneState, hands: dict[str, Array]) -> dict[str, Array]:
        """Both hands wait behind the face until the other is there, then push together."""
        X_TB = state.poses[self._box_name]
        ends_m = self._box.size_m[1] / 2 - _FROM_END_M
        # The fingers' middle when they just touch, in the box's frame.
        touching = {
            side: np.array([-self._box.size_m[0] / 2 - _FINGERS_HALF_M, sign * ends_m, 0.0])
            for side, sign in (("right", -1.0), ("left", 1.0))
        }
        beside = {
            side: (np.linalg.inv(X_TB) @ hands[side])[:3, 3] - touching[side] for side in SIDES
        }
        ready = all(
            abs(p[1]) < _IN_PLACE_M
            and -2 * _IN_PLACE_M < p[0] < _IN_PLACE_M
            and hands[side][2, 3] < _HAND_HEIGHT_M + _IN_PLACE_M
            for side, p in beside.items()
        )
        goals = {}
        for side in SIDES:
            at = touching[side].copy()
            height_m = _HAND_HEIGHT_M
            if ready:
                at += self._lead_m(state, side)
            else:
                at[0] -= _STANDOFF_M
                off_m = float(np.hypot(beside[side][0] + _STANDOFF_M, beside[side][1]))
                height_m += min(_HOVER_M, _FUNNEL_SLOPE * max(0.0, off_m - _FUNNEL_RADIUS_M))
            goal_m = X_TB[:3, :3] @ at + X_TB[:3, 3]
            goal_m[2] = height_m
            goals[side] = tilted(hand_down(goal_m, yaw_of(X_TB)), _LEAN_RAD)
        return goals

    def _lead_m(self, state: SceneState, side: str) -> Array:
        """(3,) How far from where it touches the face this hand aims, in the box's frame."""
        X_SB = state.pose_in(self._shelf_name, self._box_name)
        ahead_m = min(_LEAD_M, max(0.0, self._left_m(state)) + _DONE_M)
        # The right hand ahead turns the box to the left.
        turn_m = (self._box.size_m[1] / 2 - _FROM_END_M) * yaw_of(X_SB)
        sideways_m = float(np.clip(-X_SB[1, 3], -_MOST_SIDEWAYS_M, _MOST_SIDEWAYS_M))
        return np.array([ahead_m + (turn_m if side == "left" else -turn_m), sideways_m, 0.0])


def _away(X_TC: Array) -> Array:
    goal = X_TC.copy()
    goal[:3, 3] += [-0.07, 0.0, 0.10]
    return goal
