"""What the two-handed expert must know of each task that it does."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.motion import hand_down
from sim_client.experts.single_arm_targets import nearest_to_zero
from sim_client.experts.two_hands import Hands, SetDown
from sim_client.manipulands.bell_pepper import BellPepper
from sim_client.manipulands.plate import Plate
from sim_client.station.panda_kinematics import Array
from sim_client.station.panda_model import PAD_SIZE_M
from sim_client.tasks.scene_state import TABLE, SceneState, planar_pose, yaw_of
from sim_client.tasks.task import Task

_STACK_M = (-0.05, 0.115)
"""Where the stack grows, for a rack on the right: far enough from it for the hands between."""

_OUTWARD = {"right": -1.0, "left": 1.0}
"""The sign of y on which each hand holds."""


@dataclass(frozen=True)
class PepperIntoBin:
    """Both hands press their closed fingers' flanks against the pepper's sides."""

    task: Task
    object_name: str = "pepper"
    open_width_m: float = 0.0
    closed_width_m: float = 0.0
    clearance_m: float = 0.030
    press_m: float = 0.024
    height_m: float = 0.058
    """Of the tool centre points over the pepper's foot: above its centre of mass, so that it hangs,
    and with the palms above its top."""

    def ready(self, X_TO: Array) -> Hands:
        return self._hands(X_TO, self.clearance_m)

    def holding(self, X_TO: Array) -> Hands:
        return self._hands(X_TO, -self.press_m)

    def _hands(self, X_TO: Array, gap_m: float) -> Hands:
        """Hands whose finger flanks are this far from the sides that face the arms best."""
        pepper = self.task.objects_by_name[self.object_name]
        assert isinstance(pepper, BellPepper)
        yaw_rad = nearest_to_zero(yaw_of(X_TO), np.pi / 2)
        X_TS = _level(X_TO, yaw_rad)
        reach_m = pepper.width_m / 2 + PAD_SIZE_M[0] / 2 + gap_m
        hands = {}
        for side, outward in _OUTWARD.items():
            position = X_TS @ np.array([0.0, outward * reach_m, self.height_m, 1.0])
            # The hand's x axis, across its closed fingers, points at the pepper.
            hands[side] = hand_down(position[:3], yaw_rad - outward * np.pi / 2)
        return hands

    def set_down(self, state: SceneState) -> SetDown:
        X_TN = state.poses["bin"]
        floor_m = self.task.objects_by_name["bin"].top_m
        # Any of its four sides may end up in front.
        now = yaw_of(state.poses[self.object_name])
        return SetDown(
            position_m=X_TN[:3, 3] + np.array([0.0, 0.0, floor_m + 0.015]),
            carry_height_m=0.105,
            yaw_rad=now + nearest_to_zero(yaw_of(X_TN) - now, np.pi / 2),
            tolerance_m=0.02,
        )

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["pepper_in_bin"].holds


@dataclass(frozen=True)
class PlateOntoStack:
    """Both hands pinch the rim, on the sides that face them, leaning outward as the rim does.

    below: the plate that it goes onto; without one it goes onto the table.
    """

    task: Task
    object_name: str
    below: str | None = None
    open_width_m: float = 0.036
    closed_width_m: float = 0.0
    below_edge_m: float = 0.010
    """Along the rim, from its upper edge to the tool centre points."""

    def ready(self, X_TO: Array) -> Hands:
        plate = self._plate
        rim = plate.rim
        edge = np.array(rim.top_m)
        down = np.array([-np.sin(rim.lean_rad), -np.cos(rim.lean_rad)])
        outward = np.array([np.cos(rim.lean_rad), -np.sin(rim.lean_rad)])
        radius_m, height_m = edge + self.below_edge_m * down + rim.wall_m / 2 * outward
        # The flat piece of the rim that is nearest to the line between the hands.
        yaw_rad = nearest_to_zero(yaw_of(X_TO), rim.side_angle_rad)
        X_TS = _level(X_TO, yaw_rad)
        hands = {}
        for side, sign in _OUTWARD.items():
            position = X_TS @ np.array([0.0, sign * radius_m, height_m, 1.0])
            hands[side] = _rolled(hand_down(position[:3], yaw_rad), -sign * rim.lean_rad)
        return hands

    def holding(self, X_TO: Array) -> Hands:
        return self.ready(X_TO)

    def set_down(self, state: SceneState) -> SetDown:
        yaw_rad = yaw_of(state.poses[self.object_name])
        settled_rad = nearest_to_zero(yaw_rad, self._plate.rim.side_angle_rad)
        return SetDown(
            position_m=self._place(state) + np.array([0.0, 0.0, 0.002]),
            carry_height_m=0.11,
            yaw_rad=yaw_rad - settled_rad,
            tolerance_m=0.02 if self.below is None else 0.005,
        )

    def placed(self, state: SceneState) -> bool:
        offset = state.position_m(self.object_name) - self._place(state)
        on = TABLE if self.below is None else self.below
        return (
            state.touching(self.object_name, on)
            and float(np.linalg.norm(offset[:2])) < (0.06 if self.below is None else 0.014)
            and abs(float(offset[2])) < 0.008
        )

    def _place(self, state: SceneState) -> Array:
        if self.below is not None:
            return state.position_m(self.below) + np.array([0.0, 0.0, self._plate.top_m])
        x, y = _STACK_M
        return np.array([x, y if state.position_m("rack")[1] < 0.0 else -y, 0.0])

    @property
    def _plate(self) -> Plate:
        plate = self.task.objects_by_name[self.object_name]
        assert isinstance(plate, Plate)
        return plate


def _rolled(X_TC: Array, angle_rad: float) -> Array:
    """X_TC turned about its own x axis, with the tool centre point in place."""
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    turned = X_TC.copy()
    turned[:3, :3] = X_TC[:3, :3] @ np.array([[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]])
    return turned


def _level(X_TO: Array, yaw_rad: float) -> Array:
    """A level frame at an object's origin."""
    x, y, z = X_TO[:3, 3]
    return planar_pose(x, y, z, yaw_rad)
