"""The scripted expert of each task, and what differs between them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.pick_and_place import Grasp, PickAndPlaceExpert, Placement
from sim_client.station.panda_kinematics import Array
from sim_client.tasks.pick_and_place_box import PickAndPlaceBox
from sim_client.tasks.put_mug_on_saucer import PutMugOnSaucer
from sim_client.tasks.task import SceneState, Task


def make_expert(task: Task) -> PickAndPlaceExpert:
    """Raises ValueError for a task that has no scripted expert."""
    if isinstance(task, PickAndPlaceBox):
        return PickAndPlaceExpert(_BoxIntoBin(task=task))
    if isinstance(task, PutMugOnSaucer):
        return PickAndPlaceExpert(_MugOntoSaucer(task=task))
    raise ValueError(
        f"{task.name} has no scripted expert: add one in sim_client/experts/catalog.py"
    )


def _yaw(X: Array) -> float:
    return float(np.arctan2(X[1, 0], X[0, 0]))


def _nearest_to_zero(angle_rad: float, period_rad: float) -> float:
    return float((angle_rad + period_rad / 2) % period_rad - period_rad / 2)


@dataclass(frozen=True, kw_only=True)
class _BoxIntoBin:
    task: PickAndPlaceBox

    @property
    def object_name(self) -> str:
        return self.task.box.name

    def side(self, state: SceneState) -> str:
        return "right"

    def grasp(self, state: SceneState) -> Grasp:
        X_TO = state.poses[self.object_name]
        # A parcel looks the same turned by half a turn.
        return Grasp(
            position_m=np.array([X_TO[0, 3], X_TO[1, 3], max(X_TO[2, 3], 0.02)]),
            yaw_rad=_nearest_to_zero(_yaw(X_TO), np.pi),
        )

    def placement(self, state: SceneState) -> Placement:
        X_TN = state.poses[self.task.bin.name]
        half_height = self.task.box.size_m[2] / 2
        return Placement(
            position_m=X_TN[:3, 3] + [0.0, 0.0, half_height + 0.03],
            carry_height_m=self.task.bin.height_m + half_height + 0.045,
            yaw_rad=_nearest_to_zero(_yaw(X_TN), np.pi / 2),
            tolerance_m=0.02,
        )

    def placed(self, state: SceneState) -> bool:
        return bool(self.task.status(state).predicates["box_in_bin"])


@dataclass(frozen=True, kw_only=True)
class _MugOntoSaucer:
    task: PutMugOnSaucer

    @property
    def object_name(self) -> str:
        return self.task.mug.name

    def side(self, state: SceneState) -> str:
        return "right" if state.poses[self.object_name][1, 3] < 0.0 else "left"

    def grasp(self, state: SceneState) -> Grasp:
        X_TM = state.poses[self.object_name]
        centre = X_TM[:3, 3] + 0.050 * X_TM[:3, 2]
        # The handle points along the hand's x, out of the fingers' way.
        return Grasp(
            position_m=np.array([centre[0], centre[1], max(centre[2], 0.025)]),
            yaw_rad=_nearest_to_zero(_yaw(X_TM), np.pi),
        )

    def placement(self, state: SceneState) -> Placement:
        X_TS = state.poses[self.task.saucer.name]
        resting = self.task.saucer.height_m
        return Placement(
            position_m=X_TS[:3, 3] + [0.0, 0.0, resting + 0.004],
            carry_height_m=resting + 0.07,
            yaw_rad=0.0,
            tolerance_m=0.010,
        )

    def placed(self, state: SceneState) -> bool:
        predicates = self.task.status(state).predicates
        return bool(predicates["mug_over_saucer"] and predicates["mug_upright"])
