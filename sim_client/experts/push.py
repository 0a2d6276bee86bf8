"""A feedback expert that pushes a flat round object over the table with one arm's closed fingers.

The fingers come down behind the object, seen from where it should go, and push it along the line
between the two. At each control step that line is drawn anew, so what slips aside is followed, and
where the fingers have lost the object they rise, go behind it and come down again.
"""

from __future__ import annotations

from enum import Enum
from typing import Protocol

import numpy as np

from sim_client.experts.motion import hand_down
from sim_client.experts.one_arm import HandGoal, OneArmExpert, OneArmTarget
from sim_client.station.panda_kinematics import Array
from sim_client.station.panda_model import PAD_SIZE_M
from sim_client.tasks.scene_state import SceneState

# The fingertips are 9 mm lower than the tool centre point, so they push 7 mm over the table.
_LOW_M = 0.016
_HOVER_M = 0.12
_STAND_OFF_M = 0.025
_FUNNEL_SLOPE = 6.0
_FUNNEL_RADIUS_M = 0.008
_TOLERANCE_M = 0.012
_MAX_ASIDE_M = 0.022
_MAX_OVERLAP_M = 0.020
# Pushing, and over the last centimetres down to the table.
_CAREFUL_STEP_M = 0.018
_CAREFUL_BELOW_M = 0.07
# Pushed to the last millimetre, the object would creep: the fingers aim a little beyond.
_BEYOND_M = 0.008
# Nearer than this the line to the goal turns with every millimetre; the hand keeps its yaw.
_STEADY_M = 0.04
_RETREAT_BACK_M = 0.03
_RETREAT_UP_M = 0.12
# The wrist turns freely from -45 to 135 degrees with the tool down, for either arm; a little
# farther where that saves half a turn.
_MIDDLE_YAW_RAD = np.pi / 4
_YAW_SLACK_RAD = 0.15


class PushPhase(Enum):
    APPROACH = "approach"
    PUSH = "push"
    RETREAT = "retreat"


class PushTarget(OneArmTarget, Protocol):
    """What differs between tasks.

    stop_m: how near to its goal the object is let be. again_m: how far off it is pushed again.
    """

    @property
    def object_radius_m(self) -> float: ...

    @property
    def stop_m(self) -> float: ...

    @property
    def again_m(self) -> float: ...

    def goal_m(self, state: SceneState) -> Array:
        """(2,): where the object's origin should come to be, in T."""
        ...


class PushExpert(OneArmExpert[PushTarget, PushPhase]):
    """Drives one arm through approach, push and retreat; the other arm holds still."""

    def __init__(self, target: PushTarget) -> None:
        super().__init__(target, first=PushPhase.APPROACH, last=PushPhase.RETREAT)

    def reset(self) -> None:
        super().reset()
        self._yaw_rad: float | None = None
        self._retreat_to_m = np.zeros(3)

    def _decide(self, state: SceneState, X_TC: Array, width_m: float) -> HandGoal:
        place_m = state.position_m(self._target.object_name)[:2]
        way = self._target.goal_m(state) - place_m
        left_m = float(np.linalg.norm(way))
        along = way / max(left_m, 1e-9)
        if self._yaw_rad is None or left_m > _STEADY_M:
            self._yaw_rad = _yaw_along(along, near_rad=self._yaw_rad)
        self._switch_phase(X_TC[:3, 3], place_m, along, left_m)
        goal_m = self._goal(X_TC[:3, 3], place_m, along, left_m)
        return HandGoal(
            X_TC=hand_down(goal_m, self._yaw_rad),
            width_m=0.0,
            max_step_m=_CAREFUL_STEP_M if self._is_careful(X_TC) else None,
        )

    def _is_careful(self, X_TC: Array) -> bool:
        low = X_TC[2, 3] < _CAREFUL_BELOW_M
        return self._phase is PushPhase.PUSH or (self._phase is PushPhase.APPROACH and low)

    @property
    def _contact_m(self) -> float:
        """From the object's origin to the tool centre point, where the fingers touch it."""
        return self._target.object_radius_m + PAD_SIZE_M[0] / 2

    def _switch_phase(self, tool_m: Array, place_m: Array, along: Array, left_m: float) -> None:
        if self._phase is PushPhase.RETREAT:
            if left_m > self._target.again_m:
                self._enter(PushPhase.APPROACH)
        elif left_m < self._target.stop_m:
            back = (tool_m[:2] - place_m) / max(float(np.linalg.norm(tool_m[:2] - place_m)), 1e-9)
            self._retreat_to_m = tool_m + np.array([*(_RETREAT_BACK_M * back), _RETREAT_UP_M])
            self._enter(PushPhase.RETREAT)
        elif self._phase is PushPhase.APPROACH:
            if np.linalg.norm(self._stand_m(place_m, along) - tool_m) < _TOLERANCE_M:
                self._enter(PushPhase.PUSH)
        else:
            offset = place_m - tool_m[:2]
            behind_m = float(offset @ along)
            aside_m = float(np.linalg.norm(offset - behind_m * along))
            if (
                aside_m > _MAX_ASIDE_M
                or behind_m < self._contact_m - _MAX_OVERLAP_M
                or behind_m > self._contact_m + 2 * _STAND_OFF_M
                or tool_m[2] > _LOW_M + 0.02
            ):
                self._enter(PushPhase.APPROACH)

    def _stand_m(self, place_m: Array, along: Array) -> Array:
        """(3,): behind the object and low, not yet touching it."""
        behind = place_m - (self._contact_m + _STAND_OFF_M) * along
        return np.array([*behind, _LOW_M])

    def _goal(self, tool_m: Array, place_m: Array, along: Array, left_m: float) -> Array:
        """(3,): where the tool centre point should head now."""
        if self._phase is PushPhase.RETREAT:
            return self._retreat_to_m
        if self._phase is PushPhase.PUSH:
            ahead_m = left_m + _BEYOND_M - self._contact_m
            return np.array([*(place_m + ahead_m * along), _LOW_M])
        goal = self._stand_m(place_m, along)
        way = goal[:2] - tool_m[:2]
        off_m = float(np.linalg.norm(way))
        goal[2] += min(_HOVER_M, _FUNNEL_SLOPE * max(0.0, off_m - _FUNNEL_RADIUS_M))
        # First up, then across: nothing is swept away by fingers that are still low.
        raised = 1.0 - (goal[2] - tool_m[2]) / _HOVER_M
        goal[:2] = tool_m[:2] + float(np.clip(raised, 0.05, 1.0)) * way
        return goal


def _yaw_along(along: Array, *, near_rad: float | None) -> float:
    """A yaw at which the hand's x axis, forward or backward, lies along the push.

    So the fingers' flat sides push, and the hand's long side is away from the goal. near_rad: the
    yaw it has had, kept up to whole half turns where the wrist allows it.
    """
    yaw = float(np.arctan2(along[1], along[0]))
    best = yaw + np.pi * round((_MIDDLE_YAW_RAD - yaw) / np.pi)
    if near_rad is not None:
        near = yaw + np.pi * round((near_rad - yaw) / np.pi)
        if abs(near - _MIDDLE_YAW_RAD) < np.pi / 2 + _YAW_SLACK_RAD:
            return float(near)
    return float(best)
