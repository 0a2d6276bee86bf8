"""The stages of the fruit relay: out of the bowl to the middle, and from there into the bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.pick_and_place import Grasp, Placement
from sim_client.experts.single_arm_targets import nearest_to_zero
from sim_client.station.panda_kinematics import Array
from sim_client.station.workspace import BASE_POSITIONS_M, REACH_M
from sim_client.tasks.scene_state import SceneState, yaw_of
from sim_client.tasks.task import Task

_FRUITS = ("apple", "pear")
_MIDDLE_M = (-0.06, 0.0)
_GRASP_SHARE_OF_HEIGHT = 0.58
_OFF_MIDDLE_OF_BIN_M = 0.036
_FRUIT_NEAR_M = 0.09
_BOWL_NEAR_M = 0.20
_RECEIVER_REACH_M = REACH_M - 0.05


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
        X_TF = state.poses[self.object_name]
        height_m = self.task.objects_by_name[self.object_name].top_m
        middle = X_TF[:3, 3] + _GRASP_SHARE_OF_HEIGHT * height_m * X_TF[:3, 2]
        return Grasp(
            position_m=np.array([middle[0], middle[1], max(middle[2], 0.022)]),
            yaw_rad=self._free_yaw(state),
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

    def _receiver(self, state: SceneState) -> str:
        return nearer_side(state.position_m("bin"))

    def _in_bin(self, state: SceneState) -> bool:
        return self.task.measure(state)[f"{self.object_name}_in_bin"].holds

    def _within_receivers_reach(self, state: SceneState) -> bool:
        here = state.position_m(self.object_name)
        return distance_from_base_m(self._receiver(state), here) < _RECEIVER_REACH_M


@dataclass(frozen=True)
class FruitToMiddle(_FruitStage):
    """The arm on the bowl's side sets the fruit down where the other arm reaches it."""

    def side(self, state: SceneState) -> str:
        return "left" if self._receiver(state) == "right" else "right"

    def wanted(self, state: SceneState) -> bool:
        return not (self._in_bin(state) or self._within_receivers_reach(state))

    def placement(self, state: SceneState) -> Placement:
        return Placement(
            position_m=np.array([*_MIDDLE_M, 0.003]),
            carry_height_m=0.09,
            yaw_rad=0.0,
            tolerance_m=0.015,
        )

    def placed(self, state: SceneState) -> bool:
        return self._within_receivers_reach(state)


@dataclass(frozen=True)
class FruitIntoBin(_FruitStage):
    """The arm on the bin's side drops it in; each fruit has its half of the bin."""

    def side(self, state: SceneState) -> str:
        return self._receiver(state)

    def wanted(self, state: SceneState) -> bool:
        return not self._in_bin(state) and self._within_receivers_reach(state)

    def placement(self, state: SceneState) -> Placement:
        X_TN = state.poses["bin"]
        yaw_rad = nearest_to_zero(yaw_of(X_TN), np.pi / 2)
        offset_m = _OFF_MIDDLE_OF_BIN_M * (-1.0 if self.object_name == "apple" else 1.0)
        floor_m = self.task.objects_by_name["bin"].top_m
        return Placement(
            position_m=X_TN[:3, 3]
            + np.array([offset_m * np.cos(yaw_rad), offset_m * np.sin(yaw_rad), floor_m + 0.006]),
            carry_height_m=0.10,
            yaw_rad=yaw_rad,
            tolerance_m=0.012,
        )

    def placed(self, state: SceneState) -> bool:
        return self._in_bin(state)
