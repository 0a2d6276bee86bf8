"""What the pick-and-place expert must know of each task that it does with one arm."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.pick_and_place import Grasp, Placement
from sim_client.tasks.scene_state import SceneState, yaw_of
from sim_client.tasks.task import Task

_BOX_TO_FLOOR_M = 0.03


def nearest_to_zero(angle_rad: float, period_rad: float) -> float:
    """The same angle, up to whole periods, that is nearest to zero."""
    return float((angle_rad + period_rad / 2) % period_rad - period_rad / 2)


@dataclass(frozen=True)
class BoxIntoBin:
    task: Task
    object_name: str = "box"

    def side(self, state: SceneState) -> str:
        return "right"

    def grasp(self, state: SceneState) -> Grasp:
        X_TO = state.poses["box"]
        middle = X_TO[:3, 3] + self.task.objects_by_name["box"].top_m / 2 * X_TO[:3, 2]
        # A parcel looks the same turned by half a turn.
        return Grasp(
            position_m=np.array([middle[0], middle[1], max(middle[2], 0.02)]),
            yaw_rad=nearest_to_zero(yaw_of(X_TO), np.pi),
        )

    def placement(self, state: SceneState) -> Placement:
        X_TN = state.poses["bin"]
        return Placement(
            position_m=X_TN[:3, 3] + np.array([0.0, 0.0, _BOX_TO_FLOOR_M]),
            carry_height_m=0.11,
            yaw_rad=nearest_to_zero(yaw_of(X_TN), np.pi / 2),
            tolerance_m=0.02,
        )

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["box_in_bin"].holds


@dataclass(frozen=True)
class MugOntoSaucer:
    task: Task
    object_name: str = "mug"

    def side(self, state: SceneState) -> str:
        return "right" if state.position_m("mug")[1] < 0.0 else "left"

    def grasp(self, state: SceneState) -> Grasp:
        X_TM = state.poses["mug"]
        centre = X_TM[:3, 3] + 0.050 * X_TM[:3, 2]
        # The handle points along the hand's x, out of the fingers' way.
        return Grasp(
            position_m=np.array([centre[0], centre[1], max(centre[2], 0.025)]),
            yaw_rad=nearest_to_zero(yaw_of(X_TM), np.pi),
        )

    def placement(self, state: SceneState) -> Placement:
        resting_m = self.task.objects_by_name["saucer"].top_m
        return Placement(
            position_m=state.position_m("saucer") + np.array([0.0, 0.0, resting_m + 0.004]),
            carry_height_m=resting_m + 0.07,
            yaw_rad=0.0,
            tolerance_m=0.010,
        )

    def placed(self, state: SceneState) -> bool:
        measures = self.task.measure(state)
        return measures["mug_on_saucer"].holds and measures["mug_upright"].holds
