"""PickAndPlaceBox: the right arm puts a box into a bin."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sim_client.tasks.manipulands import BinManipuland, BoxManipuland, Manipuland
from sim_client.tasks.task import (
    Layout,
    SceneState,
    TaskStatus,
    fell_off_table,
    planar_pose,
    sample_until_valid,
)

# Where the box's and the bin's centres may be: (lower, upper) in x and y of the task frame, within
# the right arm's reach with the tool pointing down.
_BOX_X_M, _BOX_Y_M = (-0.14, 0.04), (-0.34, -0.16)
_BIN_X_M, _BIN_Y_M = (-0.10, 0.04), (0.03, 0.12)
_MAX_BOX_YAW_RAD = np.deg2rad(35.0)
_MAX_BIN_YAW_RAD = np.deg2rad(10.0)
# From the box's centre to the bin's wall: half the hand's width, which is lower than the wall's
# height when the box is grasped.
_CLEARANCE_M = 0.11
_REST_SPEED_M_S = 0.05
_REST_ANGULAR_SPEED_RAD_S = 0.8


@dataclass(frozen=True, kw_only=True)
class PickAndPlaceBox:
    name: str = "PickAndPlaceBox"
    instruction: str = "Pick up the box and place it in the bin."
    time_limit_s: float = 15.0
    box: BoxManipuland = field(default_factory=BoxManipuland)
    bin: BinManipuland = field(default_factory=BinManipuland)

    @property
    def objects(self) -> tuple[Manipuland, ...]:
        return (self.box, self.bin)

    def sample_layout(self, rng: np.random.Generator) -> Layout:
        def propose() -> Layout:
            return {
                self.box.name: planar_pose(
                    rng.uniform(*_BOX_X_M),
                    rng.uniform(*_BOX_Y_M),
                    self.box.size_m[2] / 2,
                    rng.uniform(-_MAX_BOX_YAW_RAD, _MAX_BOX_YAW_RAD),
                ),
                self.bin.name: planar_pose(
                    rng.uniform(*_BIN_X_M),
                    rng.uniform(*_BIN_Y_M),
                    0.0,
                    rng.uniform(-_MAX_BIN_YAW_RAD, _MAX_BIN_YAW_RAD),
                ),
            }

        return sample_until_valid(propose, self.is_valid, task=self.name)

    def is_valid(self, layout: Layout) -> bool:
        """Whether the open gripper can reach around the box without touching the bin."""
        X_bin_box = np.linalg.inv(layout[self.bin.name]) @ layout[self.box.name]
        return bool(np.abs(X_bin_box[:2, 3]).max() - self.bin.outer_m / 2 > _CLEARANCE_M)

    def status(self, state: SceneState) -> TaskStatus:
        X_TO = state.poses[self.box.name]
        X_TN = state.poses[self.bin.name]
        p_bin = np.linalg.inv(X_TN) @ X_TO[:, 3]
        inside = bool(
            np.abs(p_bin[:2]).max() < self.bin.inner_m / 2 and 0.0 < p_bin[2] < self.bin.height_m
        )
        lifted = bool(X_TO[2, 3] > self.box.size_m[2] / 2 + 0.03)
        released = self.box.name not in state.finger_contacts
        at_rest = (
            state.speed_m_s(self.box.name) < _REST_SPEED_M_S
            and state.angular_speed_rad_s(self.box.name) < _REST_ANGULAR_SPEED_RAD_S
        )
        return TaskStatus(
            success=inside and released and at_rest,
            failed=fell_off_table(X_TO),
            predicates={
                "box_in_bin": inside,
                "box_released": released,
                "box_at_rest": at_rest,
                "box_lifted": lifted,
                "box_to_bin_m": float(np.linalg.norm(p_bin[:2])),
            },
        )
