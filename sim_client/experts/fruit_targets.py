"""The stages of the fruit relay: out of the bowl to the middle, and from there into the bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.pick_and_place import Grasp, Placement
from sim_client.experts.single_arm_targets import nearest_to_zero
from sim_client.manipulands.manipuland import Manipuland
from sim_client.station.panda_kinematics import Array
from sim_client.station.workspace import BASE_POSITIONS_M, REACH_M
from sim_client.tasks.scene_state import SceneState, yaw_of
from sim_client.tasks.task import Task

_FRUITS = ("apple", "pear")
_MIDDLE_M = (-0.06, 0.0)
_GRASP_SHARE_OF_HEIGHT = 0.58
_HOLD_WITHIN_M = 0.012
_LIES_BELOW_COSINE = 0.7
_LYING_IN_BOWL_M = 0.046
"""The tool centre point's height there: the fingers' tips beside the fruit's middle, no lower, for
along the wall there is more room the higher they are."""
_CARRY_ABOVE_M = 0.088
_OFF_MIDDLE_OF_BIN_M = 0.036
_FRUIT_NEAR_M = 0.09
_BOWL_NEAR_M = 0.20
_RECEIVER_REACH_M = REACH_M - 0.05
_RECEIVER_BEYOND_MIDDLE_M = 0.06
"""Farther on the giver's side the receiver's hand has no room beside the giver's, even at home."""


def distance_from_base_m(side: str, position_m: Array) -> float:
    """From an arm's base, seen from above."""
    return float(np.linalg.norm(position_m[:2] - np.array(BASE_POSITIONS_M[side][:2])))


def nearer_side(position_m: Array) -> str:
    return "right" if position_m[1] < 0.0 else "left"


@dataclass(frozen=True)
class _FruitStage:
    task: Task
    object_name: str

    def grasp(self, state: SceneState) -> Grasp:
        if abs(float(state.poses[self.object_name][2, 2])) < _LIES_BELOW_COSINE:
            return self._grasp_lying(state)
        height_m = _GRASP_SHARE_OF_HEIGHT * self._fruit.top_m
        return self._grasp_at(state, height_m, lowest_m=0.022, yaw_rad=self._free_yaw(state))

    def _grasp_lying(self, state: SceneState) -> Grasp:
        """By its round side, or by its ends where they are nearer: what is held askew turns."""
        X_TF, fruit = state.poses[self.object_name], self._fruit
        yaw_rad, free_yaw_rad = float(np.arctan2(X_TF[1, 2], X_TF[0, 2])), self._free_yaw(state)
        period_rad = np.pi / 2 if fruit.top_m < 2 * fruit.radius_m else np.pi
        yaw_rad = free_yaw_rad + nearest_to_zero(yaw_rad - free_yaw_rad, period_rad)
        return self._grasp_at(
            state,
            min(fruit.radius_m, fruit.top_m / 2),
            lowest_m=_LYING_IN_BOWL_M if self._in_bowl(state) else 0.022,
            yaw_rad=nearest_to_zero(yaw_rad, np.pi),
        )

    def _grasp_at(
        self, state: SceneState, along_m: float, *, lowest_m: float, yaw_rad: float
    ) -> Grasp:
        """along_m: up the fruit's own axis. lowest_m: the tool centre point's height, at least."""
        X_TF = state.poses[self.object_name]
        x, y, z = X_TF[:3, 3] + along_m * X_TF[:3, 2]
        return Grasp(
            position_m=np.array([x, y, max(z, lowest_m)]),
            yaw_rad=yaw_rad,
            hold_within_m=_HOLD_WITHIN_M,
        )

    def _free_yaw(self, state: SceneState) -> float:
        """The fingers slide across the line to what is nearest: the other fruit, or the wall."""
        here = state.position_m(self.object_name)
        others = [(name, _FRUIT_NEAR_M) for name in _FRUITS if name != self.object_name]
        for other, near_m in (*others, ("bowl", _BOWL_NEAR_M)):
            x, y, _ = here - state.position_m(other)
            if 0.015 < np.hypot(x, y) < near_m:
                return nearest_to_zero(float(np.arctan2(y, x)), np.pi)
        return 0.0

    @property
    def _fruit(self) -> Manipuland:
        return self.task.objects_by_name[self.object_name]

    def _in_bowl(self, state: SceneState) -> bool:
        """Over it, seen from above."""
        offset = state.position_m(self.object_name) - state.position_m("bowl")
        return bool(np.hypot(*offset[:2]) < self.task.objects_by_name["bowl"].radius_m)

    def _receiver(self, state: SceneState) -> str:
        return nearer_side(state.position_m("bin"))

    def _in_bin(self, state: SceneState) -> bool:
        return self.task.measure(state)[f"{self.object_name}_in_bin"].holds

    def _for_receiver(self, state: SceneState) -> bool:
        """Whether it is where the receiver's arm reaches it, and has room for its hand."""
        here, receiver = state.position_m(self.object_name), self._receiver(state)
        towards_giver_m = float(here[1]) * (1.0 if receiver == "right" else -1.0)
        return (
            distance_from_base_m(receiver, here) < _RECEIVER_REACH_M
            and towards_giver_m < _RECEIVER_BEYOND_MIDDLE_M
        )

    def _let_go_over(
        self, state: SceneState, floor_m: Array, *, yaw_rad: float, tolerance_m: float
    ) -> Placement:
        """Let go with its middle over a point of the floor (3,), however it lies in the hand."""
        up = state.poses[self.object_name][:3, 2]
        half_m = self._fruit.top_m / 2
        upright = min(1.0, abs(float(up[2])))
        lowest_m = half_m * upright + self._fruit.radius_m * float(np.sqrt(1.0 - upright**2))
        position_m = floor_m + np.array([0.0, 0.0, lowest_m]) - half_m * up
        return Placement(
            position_m=position_m,
            carry_height_m=float(position_m[2]) + _CARRY_ABOVE_M,
            yaw_rad=yaw_rad,
            tolerance_m=tolerance_m,
        )


@dataclass(frozen=True)
class FruitToMiddle(_FruitStage):
    """The arm on the bowl's side sets the fruit down where the other arm reaches it."""

    def side(self, state: SceneState) -> str:
        return "left" if self._receiver(state) == "right" else "right"

    def wanted(self, state: SceneState) -> bool:
        return not (self._in_bin(state) or self._for_receiver(state))

    def placement(self, state: SceneState) -> Placement:
        above = np.array([*_MIDDLE_M, 0.003])
        return self._let_go_over(state, above, yaw_rad=0.0, tolerance_m=0.015)

    def placed(self, state: SceneState) -> bool:
        return self._for_receiver(state)


@dataclass(frozen=True)
class FruitIntoBin(_FruitStage):
    """The arm on the bin's side drops it in; each fruit has its half of the bin."""

    def side(self, state: SceneState) -> str:
        return self._receiver(state)

    def wanted(self, state: SceneState) -> bool:
        return not self._in_bin(state) and self._for_receiver(state)

    def placement(self, state: SceneState) -> Placement:
        X_TN = state.poses["bin"]
        yaw_rad = nearest_to_zero(yaw_of(X_TN), np.pi / 2)
        offset_m = _OFF_MIDDLE_OF_BIN_M * (-1.0 if self.object_name == "apple" else 1.0)
        floor_m = self.task.objects_by_name["bin"].top_m
        above = X_TN[:3, 3] + np.array(
            [offset_m * np.cos(yaw_rad), offset_m * np.sin(yaw_rad), floor_m + 0.006]
        )
        return self._let_go_over(state, above, yaw_rad=yaw_rad, tolerance_m=0.012)

    def placed(self, state: SceneState) -> bool:
        return self._in_bin(state)
