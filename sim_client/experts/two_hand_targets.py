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
from sim_client.station.panda_model import PAD_SIZE_M, TIP_BEYOND_TCP_M
from sim_client.tasks.scene_state import TABLE, SceneState, planar_pose, yaw_of
from sim_client.tasks.task import Task

_STACK_M = (-0.05, 0.115)
"""Where the stack grows, for a rack on the right: far enough from it for the hands between."""

_OUTWARD = {"right": -1.0, "left": 1.0}
"""The sign of y on which each hand holds."""


@dataclass(frozen=True)
class PepperIntoBin:
    """Each hand pushes one of its open fingers against a side of the pepper.

    The fingers give way, so that the squeeze hardly changes where noise moves a hand; the hands
    lean outward to have room for each other. The pepper may stand or lie, as after a fall:
    whichever sides face the arms are taken.
    """

    task: Task
    object_name: str = "pepper"
    open_width_m: float = 0.070
    closed_width_m: float = 0.070
    held_width_m: float = 0.062
    pressed_width_m: float = 0.020
    """What the hands would push the grippers shut to, if the pepper and the arms were rigid."""
    clearance_m: float = 0.028
    below_top_m: float = 0.028
    """Of the finger tips' edges: above the centre of mass, so that the pepper hangs."""
    lean_rad: float = float(np.deg2rad(28.0))

    def ready(self, X_TO: Array) -> Hands:
        return self._hands(X_TO, self.clearance_m + self.open_width_m / 2)

    def holding(self, X_TO: Array) -> Hands:
        return self._hands(X_TO, self.pressed_width_m / 2)

    def _hands(self, X_TO: Array, half_width_m: float) -> Hands:
        """Hands whose inner fingers, this far from their middles, touch the sides that face the
        arms best with the edge of their tips."""
        half_m = self._half_sizes_m()
        axes = X_TO[:3, :3]
        across = int(np.argmax(np.abs(axes[1])))
        direction = axes[:, across] * np.sign(axes[1, across])
        yaw_rad = float(np.arctan2(-direction[0], direction[1]))
        middle = self._middle(X_TO)
        top_m = float(np.abs(axes[2]) @ half_m)
        X_TS = planar_pose(middle[0], middle[1], middle[2] + top_m - self.below_top_m, yaw_rad)
        # From the tool centre point to the edge, along the fingers and across them.
        along_m, across_m = TIP_BEYOND_TCP_M, half_width_m + PAD_SIZE_M[1]
        c, s = np.cos(self.lean_rad), np.sin(self.lean_rad)
        inward_m, up_m = along_m * s + across_m * c, across_m * s - along_m * c
        hands = {}
        for side, outward in _OUTWARD.items():
            reach_m = half_m[across] + inward_m
            position = X_TS @ np.array([0.0, outward * reach_m, -up_m, 1.0])
            hands[side] = _rolled(hand_down(position[:3], yaw_rad), -outward * self.lean_rad)
        return hands

    def set_down(self, state: SceneState) -> SetDown:
        X_TN, X_TO = state.poses["bin"], state.poses[self.object_name]
        floor_m = self.task.objects_by_name["bin"].top_m
        R_TO = X_TN[:3, :3] @ _nearest_quarter_turns(X_TN[:3, :3].T @ X_TO[:3, :3])
        half_m = self._half_sizes_m()
        X_goal = np.eye(4)
        X_goal[:3, :3] = R_TO
        X_goal[:3, 3] = X_TN[:3, 3] - R_TO[:, 2] * half_m[2]
        X_goal[2, 3] += floor_m + float(np.abs(R_TO[2]) @ half_m) + 0.045
        return SetDown(X_TO=X_goal, carry_height_m=float(X_goal[2, 3]) + 0.060, tolerance_m=0.02)

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["pepper_in_bin"].holds

    def _middle(self, X_TO: Array) -> Array:
        return X_TO[:3, 3] + X_TO[:3, 2] * self._half_sizes_m()[2]

    def _half_sizes_m(self) -> Array:
        pepper = self.task.objects_by_name[self.object_name]
        assert isinstance(pepper, BellPepper)
        return np.array([pepper.width_m, pepper.width_m, pepper.height_m]) / 2


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
    held_width_m: float = 0.010
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
        # The hands stay level where the plate isn't: they meet its rim where it is.
        X_TS = X_TO @ planar_pose(0.0, 0.0, 0.0, yaw_rad - yaw_of(X_TO))
        hands = {}
        for side, sign in _OUTWARD.items():
            position = X_TS @ np.array([0.0, sign * radius_m, height_m, 1.0])
            hands[side] = _rolled(hand_down(position[:3], yaw_rad), -sign * rim.lean_rad)
        return hands

    def holding(self, X_TO: Array) -> Hands:
        return self.ready(X_TO)

    def set_down(self, state: SceneState) -> SetDown:
        yaw_rad = yaw_of(state.poses[self.object_name])
        aligned_rad = yaw_rad - nearest_to_zero(yaw_rad, self._plate.rim.side_angle_rad)
        x, y, z = self._place(state)
        return SetDown(
            X_TO=planar_pose(x, y, z + 0.002, aligned_rad),
            carry_height_m=0.11,
            tolerance_m=0.02 if self.below is None else 0.005,
        )

    def placed(self, state: SceneState) -> bool:
        offset = state.position_m(self.object_name) - self._place(state)
        on = TABLE if self.below is None else self.below
        return (
            state.touching(self.object_name, on)
            # Nested askew it stays askew until it is taken again.
            and self.task.measure(state)[f"{self.object_name}_upright"].holds
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


def _nearest_quarter_turns(R: Array) -> Array:
    """The rotation (3, 3) nearest to R of the 24 that map the axes onto each other."""
    nearest = np.zeros((3, 3))
    left = np.abs(R)
    for _ in range(2):
        row, column = np.unravel_index(int(np.argmax(left)), left.shape)
        nearest[row, column] = np.sign(R[row, column])
        left[row, :] = left[:, column] = -1.0
    row, column = np.unravel_index(int(np.argmax(left)), left.shape)
    nearest[row, column] = 1.0
    nearest[row, column] = np.sign(np.linalg.det(nearest))
    return nearest
