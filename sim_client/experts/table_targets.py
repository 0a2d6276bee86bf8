"""What the experts must know of the tasks with coaster, cup, mug, kiwi, banana and saucer."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sim_client.experts.pick_and_place import Grasp, Placement
from sim_client.experts.single_arm_targets import nearest_to_zero
from sim_client.station.panda_kinematics import Array
from sim_client.tasks.scene_state import SceneState, yaw_of
from sim_client.tasks.task import Task

_LOWEST_GRASP_M = 0.016
"""The tool centre point over the table, so that the fingertips stay 7 mm above it."""
_SET_DOWN_M = 0.004
"""Over its place of rest, where an object is let go."""


def side_of(state: SceneState, name: str) -> str:
    """The arm on the object's side of the table."""
    return "right" if state.position_m(name)[1] < 0.0 else "left"


def grasp_across(
    state: SceneState,
    name: str,
    *,
    height_m: float,
    yaw_rad: float,
    hold_within_m: float = np.inf,
) -> Grasp:
    """Fingers at `height_m` on the object's own z axis, over its origin."""
    X_TO = state.poses[name]
    centre = X_TO[:3, 3] + height_m * X_TO[:3, 2]
    return Grasp(
        position_m=np.array([centre[0], centre[1], max(centre[2], _LOWEST_GRASP_M)]),
        yaw_rad=yaw_rad,
        hold_within_m=hold_within_m,
    )


@dataclass(frozen=True, kw_only=True)
class ItemToCentre:
    """Into the centre of the table.

    grasp_height_m: on the object's z axis, over its origin. hold_within_m: see `Grasp`.
    """

    task: Task
    object_name: str
    grasp_height_m: float
    hold_within_m: float = np.inf

    def side(self, state: SceneState) -> str:
        return side_of(state, self.object_name)

    def grasp(self, state: SceneState) -> Grasp:
        # Across the object's y: a mug's handle points along the hand's x, out of the way.
        yaw = nearest_to_zero(yaw_of(state.poses[self.object_name]), np.pi)
        return grasp_across(
            state,
            self.object_name,
            height_m=self.grasp_height_m,
            yaw_rad=yaw,
            hold_within_m=self.hold_within_m,
        )

    def placement(self, state: SceneState) -> Placement:
        rest_m = self.task.objects_by_name[self.object_name].rest_height_m
        return Placement(
            position_m=np.array([0.0, 0.0, rest_m + _SET_DOWN_M]),
            carry_height_m=rest_m + 0.07,
            yaw_rad=0.0,
            tolerance_m=0.010,
        )

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)[f"{self.object_name}_at_centre"].holds


@dataclass(frozen=True, kw_only=True)
class CupByCoaster:
    """Beside the coaster, on the side that the cup comes from."""

    task: Task
    object_name: str = "cup"
    gap_m: float = 0.018

    def side(self, state: SceneState) -> str:
        return side_of(state, "cup")

    def grasp(self, state: SceneState) -> Grasp:
        return grasp_across(state, "cup", height_m=0.058, yaw_rad=0.0)

    def placement(self, state: SceneState) -> Placement:
        objects = self.task.objects_by_name
        coaster, way = state.position_m("coaster"), np.zeros(3)
        way[:2] = (state.position_m("cup") - coaster)[:2]
        distance_m = objects["cup"].radius_m + objects["coaster"].radius_m + self.gap_m
        place = coaster + distance_m * way / max(float(np.linalg.norm(way)), 1e-9)
        return Placement(
            position_m=np.array([place[0], place[1], _SET_DOWN_M]),
            carry_height_m=0.07,
            yaw_rad=0.0,
            tolerance_m=0.010,
        )

    def placed(self, state: SceneState) -> bool:
        measures = self.task.measure(state)
        return measures["cup_by_coaster"].holds and measures["cup_upright"].holds


@dataclass(frozen=True, kw_only=True)
class BananaOntoSaucer:
    task: Task
    object_name: str = "banana"

    def side(self, state: SceneState) -> str:
        return side_of(state, "banana")

    def grasp(self, state: SceneState) -> Grasp:
        yaw = nearest_to_zero(yaw_of(state.poses["banana"]), np.pi)
        return grasp_across(state, "banana", height_m=0.0, yaw_rad=yaw)

    def placement(self, state: SceneState) -> Placement:
        objects = self.task.objects_by_name
        height_m = objects["saucer"].top_m + objects["banana"].rest_height_m + _SET_DOWN_M
        return Placement(
            position_m=state.position_m("saucer") + np.array([0.0, 0.0, height_m]),
            carry_height_m=height_m + 0.06,
            yaw_rad=0.0,
            tolerance_m=0.010,
        )

    def placed(self, state: SceneState) -> bool:
        return self.task.measure(state)["banana_on_saucer"].holds


@dataclass(frozen=True, kw_only=True)
class CoasterToCentre:
    task: Task
    object_name: str = "coaster"
    stop_m: float = 0.012
    again_m: float = 0.030

    @property
    def object_radius_m(self) -> float:
        return self.task.objects_by_name["coaster"].radius_m

    def side(self, state: SceneState) -> str:
        return side_of(state, "coaster")

    def goal_m(self, state: SceneState) -> Array:
        return np.zeros(2)


@dataclass(frozen=True, kw_only=True)
class CoasterToMug:
    """Up to the mug on the straight way, to `gap_m` between the two, so that it isn't hit."""

    task: Task
    object_name: str = "coaster"
    stop_m: float = 0.012
    again_m: float = 0.020
    gap_m: float = 0.015

    @property
    def object_radius_m(self) -> float:
        return self.task.objects_by_name["coaster"].radius_m

    def side(self, state: SceneState) -> str:
        return side_of(state, "coaster")

    def goal_m(self, state: SceneState) -> Array:
        mug = state.position_m("mug")[:2]
        away = state.position_m("coaster")[:2] - mug
        distance_m = self.object_radius_m + self.task.objects_by_name["mug"].radius_m + self.gap_m
        return mug + distance_m * away / max(float(np.linalg.norm(away)), 1e-9)
