"""What the reorientation expert must know of each task."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.motion import tilted, turn_between
from sim_client.manipulands.spatula import Spatula
from sim_client.station.inverse_kinematics import rotation_from_vector
from sim_client.station.panda_kinematics import Array
from sim_client.tasks.scene_state import SceneState
from sim_client.tasks.task import Task

_UP = np.array([0.0, 0.0, 1.0])
_LEAN_RAD = float(np.pi / 4)
"""Of the palm when a quarter turn begins, and to the other side at its end."""
_MORE_LEAN_RAD = float(np.deg2rad(20.0))
"""Where the palm leans away from the arms; so much less where it leans toward them."""
_KEEP_SIDES_RAD = 0.8
_SET_DOWN_M = 0.002
_COMFORTABLE_X_M = (-0.14, 0.06)
_COMFORTABLE_BESIDE_M = (0.06, 0.34)
"""From the middle line toward the arm's own side."""
_END_TO_GRASP_M = 0.018
"""From a vessel's end, beyond which the palm leans: farther in, the palm would meet its wall (and
a finger the mug's handle)."""
_ABOVE_AXIS_M = 0.003
"""Fingertips are then off the table, and off the handle that rests on it."""
_NECK_TO_GRASP_M = 0.020
_BUTT_TO_FLOOR_M = 0.012
_LOWEST_LEANING_M = 0.016
"""Of the tool centre point; a leaning hand's fingertips are 13 mm lower."""
_ROLL_STEP_RAD = float(np.deg2rad(100.0))


def _side_of(position_m: Array) -> str:
    return "right" if position_m[1] < 0.0 else "left"


def leaning_hand(position_m: Array, axis: Array, *, lean_rad: float) -> Array:
    """X_TC with the fingers closing across a level axis (3,) in T, the palm leaning along it.

    lean_rad: of the palm from straight above toward the axis's end. Of the two hands that this
    leaves, the one in the middle of the wrist's range: its x axis ahead or toward the left arm.
    """
    length = float(np.linalg.norm(axis[:2]))
    # What stands has no level axis: any direction is as good.
    x, y = axis[:2] / length if length > 1e-6 else (0.0, 1.0)
    sign = 1.0 if x + y >= 0.0 else -1.0
    X = np.eye(4)
    X[:3, :3] = np.column_stack([[sign * x, sign * y, 0.0], [sign * y, -sign * x, 0.0], -_UP])
    X[:3, 3] = position_m
    # A positive tilt points the fingers along the hand's x axis, so the palm leans against it.
    return tilted(X, -sign * lean_rad)


def hand_for_quarter_turn(position_m: Array, axis: Array, X_TC: Array) -> Array:
    """X_TC that grips what lies along `axis` (3,), whose end is to point up in the end.

    An arm reaches farther with the palm leaning away from it than toward it, so the two leans that
    the quarter turn begins and ends with are divided accordingly. A wrist that is wound up already
    (X_TC, where the hand is) keeps its fingers on the sides where they are.
    """
    lean_rad = _LEAN_RAD + _MORE_LEAN_RAD * float(axis[0])
    hand = leaning_hand(position_m, axis, lean_rad=lean_rad)
    swapped = hand @ np.diag([-1.0, -1.0, 1.0, 1.0])
    turn_rad, swapped_turn_rad = (
        float(np.linalg.norm(turn_between(X_TC[:3, :3], each[:3, :3]))) for each in (hand, swapped)
    )
    return swapped if swapped_turn_rad < turn_rad - _KEEP_SIDES_RAD else hand


def shortest_turn(start: Array, end: Array) -> Array:
    """The rotation (3, 3) by the smallest angle from one unit vector to another."""
    cross = np.cross(start, end)
    sine = float(np.linalg.norm(cross))
    if sine < 1e-9:
        return np.eye(3)
    return rotation_from_vector(cross / sine * float(np.arctan2(sine, start @ end)))


def _set_down(X_TO: Array, X_TC: Array, turn: Array, *, resting_m: float) -> Array:
    """The hand where it is from above or near it, turned, and the object just over the table.

    Near it: where the arm on that side can turn any way. resting_m: the height of the object's
    origin when it is set down.
    """
    goal = np.eye(4)
    goal[:3, :3] = turn @ X_TC[:3, :3]
    goal[0, 3] = np.clip(X_TC[0, 3], *_COMFORTABLE_X_M)
    goal[1, 3] = np.sign(X_TC[1, 3]) * np.clip(abs(X_TC[1, 3]), *_COMFORTABLE_BESIDE_M)
    goal[2, 3] = resting_m + _SET_DOWN_M + (turn @ (X_TC[:3, 3] - X_TO[:3, 3]))[2]
    return goal


@dataclass(frozen=True)
class MugRightsideUp:
    """A quarter turn: gripped at the rim, the palm beyond it; upright, the palm is behind it."""

    task: Task
    object_name: str = "mug"
    standoff_m: float = 0.09
    clearance_m: float = 0.03
    carry_height_m: float = 0.14
    tolerance_m: float = 0.02
    hold_tolerance_rad: float = 0.4

    def side(self, state: SceneState) -> str:
        return _side_of(state.position_m("mug"))

    def grasp(self, state: SceneState, X_TC: Array) -> Array:
        X_TM = state.poses["mug"]
        along_m = self.task.objects_by_name["mug"].top_m - _END_TO_GRASP_M
        at = X_TM[:3, 3] + along_m * X_TM[:3, 2] + _ABOVE_AXIS_M * _UP
        return hand_for_quarter_turn(at, X_TM[:3, 2], X_TC)

    def release(self, state: SceneState, X_TC: Array) -> Array:
        X_TM = state.poses["mug"]
        return _set_down(X_TM, X_TC, shortest_turn(X_TM[:3, 2], _UP), resting_m=0.0)

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["mug_upright"].holds


@dataclass(frozen=True)
class CupUpsideDown:
    """Half a turn of the hand about its own approach axis, which is horizontal.

    A cup that lies on its side, after an accident, takes a quarter turn as the mug does.
    """

    task: Task
    object_name: str = "cup"
    standoff_m: float = 0.11
    clearance_m: float = 0.10
    carry_height_m: float = 0.16
    tolerance_m: float = 0.02
    # What the palm is above the cup's waist, it is below it in the end, near the table.
    hold_tolerance_rad: float = 0.10

    def side(self, state: SceneState) -> str:
        return _side_of(state.position_m("cup"))

    def grasp(self, state: SceneState, X_TC: Array) -> Array:
        X_TO = state.poses["cup"]
        axis = X_TO[:3, 2]
        if _lies(X_TO):
            near_base = X_TO[:3, 3] + _END_TO_GRASP_M * axis + _ABOVE_AXIS_M * _UP
            return hand_for_quarter_turn(near_base, -axis, X_TC)
        goal = self._level_hand(state)
        goal[:3, :3] = shortest_turn(_UP, axis) @ goal[:3, :3]
        goal[:3, 3] = X_TO[:3, 3] + self.task.objects_by_name["cup"].top_m / 2 * axis
        return goal

    def release(self, state: SceneState, X_TC: Array) -> Array:
        X_TO = state.poses["cup"]
        # The level hand holds a standing cup, a hand from above one that lay.
        from_above = X_TC[2, 2] < -np.sin(_LEAN_RAD / 2)
        turn = shortest_turn(X_TO[:3, 2], -_UP) if from_above else self._roll(state, X_TO)
        height_m = self.task.objects_by_name["cup"].top_m
        return _set_down(X_TO, X_TC, turn, resting_m=height_m)

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["cup_upside_down"].holds

    def _level_hand(self, state: SceneState) -> Array:
        """Pointing from its arm's side toward the other arm, fingers side by side."""
        inward = 1.0 if self.side(state) == "right" else -1.0
        return leaning_hand(np.zeros(3), np.array([0.0, inward, 0.0]), lean_rad=-float(np.pi / 2))

    def _roll(self, state: SceneState, X_TO: Array) -> Array:
        """The next part of the half turn, levelled at its end."""
        axis = self._level_hand(state)[:3, 2]
        side = np.cross(axis, _UP)
        # From upright, 0, over the side that the wrist can turn to, to upside down, pi.
        rolled = float(np.arctan2(X_TO[:3, 2] @ side, X_TO[2, 2]))
        if rolled < -np.pi / 2:
            rolled += 2 * np.pi
        left = np.pi - rolled
        ahead = rotation_from_vector(axis * min(left, _ROLL_STEP_RAD))
        if left < _ROLL_STEP_RAD:
            return shortest_turn(ahead @ X_TO[:3, 2], -_UP) @ ahead
        return ahead


@dataclass(frozen=True)
class SpatulaIntoCrock:
    """A quarter turn that makes the spatula stand on its handle's end over the crock."""

    task: Task
    object_name: str = "spatula"
    standoff_m: float = 0.08
    clearance_m: float = 0.03
    carry_height_m: float = 0.29
    tolerance_m: float = 0.012
    hold_tolerance_rad: float = 0.4

    def side(self, state: SceneState) -> str:
        return _side_of(state.position_m("spatula"))

    def grasp(self, state: SceneState, X_TC: Array) -> Array:
        X_TS = state.poses["spatula"]
        spatula = self._spatula
        neck = X_TS[:3, 3] + (spatula.handle_m[0] / 2 - _NECK_TO_GRASP_M) * X_TS[:3, 0]
        neck[2] = max(neck[2] + spatula.handle_m[2] / 2, _LOWEST_LEANING_M)
        return hand_for_quarter_turn(neck, X_TS[:3, 0], X_TC)

    def release(self, state: SceneState, X_TC: Array) -> Array:
        X_TS = state.poses["spatula"]
        turn = shortest_turn(X_TS[:3, 0], _UP)
        goal = np.eye(4)
        goal[:3, :3] = turn @ X_TC[:3, :3]
        goal[:3, 3] = state.position_m("crock")
        goal[2, 3] += (
            self.task.objects_by_name["crock"].top_m
            + _BUTT_TO_FLOOR_M
            + self._spatula.handle_m[0] / 2
            + (turn @ (X_TC[:3, 3] - X_TS[:3, 3]))[2]
        )
        return goal

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["spatula_in_crock"].holds

    @property
    def _spatula(self) -> Spatula:
        spatula = self.task.objects_by_name["spatula"]
        assert isinstance(spatula, Spatula)
        return spatula


def _lies(X_TO: Array) -> bool:
    return bool(abs(X_TO[2, 2]) < 0.5)
