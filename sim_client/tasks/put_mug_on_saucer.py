"""PutMugOnSaucer: the arm on the mug's side stands the mug on the saucer."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from sim_client.tasks.manipulands import Manipuland, MugManipuland, SaucerManipuland
from sim_client.tasks.task import (
    Layout,
    SceneState,
    TaskStatus,
    fell_off_table,
    planar_pose,
    sample_until_valid,
)

# Given for the right side (y < 0) and mirrored for the left.
_MUG_X_M, _MUG_Y_M = (-0.14, 0.04), (-0.36, -0.20)
_SAUCER_X_M, _SAUCER_Y_M = (-0.12, 0.04), (-0.08, 0.02)
_MAX_HANDLE_YAW_RAD = np.deg2rad(40.0)
# Room for an open finger and the hand between the mug's wall and the saucer's edge.
_CLEARANCE_M = 0.045
_MAX_OFFSET_M = 0.035
_MIN_UPRIGHT_COSINE = float(np.cos(np.deg2rad(10.0)))
_HEIGHT_TOLERANCE_M = 0.012
_REST_SPEED_M_S = 0.03
_REST_ANGULAR_SPEED_RAD_S = 0.5


@dataclass(frozen=True, kw_only=True)
class PutMugOnSaucer:
    name: str = "PutMugOnSaucer"
    instruction: str = "Put the mug on the saucer."
    time_limit_s: float = 15.0
    mug: MugManipuland = field(default_factory=MugManipuland)
    saucer: SaucerManipuland = field(default_factory=SaucerManipuland)

    @property
    def objects(self) -> tuple[Manipuland, ...]:
        return (self.mug, self.saucer)

    def sample_layout(self, rng: np.random.Generator) -> Layout:
        def propose() -> Layout:
            side = 1.0 if rng.random() < 0.5 else -1.0
            return {
                self.mug.name: planar_pose(
                    rng.uniform(*_MUG_X_M),
                    -side * rng.uniform(*_MUG_Y_M),
                    0.0,
                    rng.uniform(-_MAX_HANDLE_YAW_RAD, _MAX_HANDLE_YAW_RAD),
                ),
                self.saucer.name: planar_pose(
                    rng.uniform(*_SAUCER_X_M), -side * rng.uniform(*_SAUCER_Y_M), 0.0, 0.0
                ),
            }

        return sample_until_valid(propose, self.is_valid, task=self.name)

    def is_valid(self, layout: Layout) -> bool:
        """Whether the open gripper can reach around the mug without touching the saucer."""
        offset = layout[self.mug.name][:2, 3] - layout[self.saucer.name][:2, 3]
        gap = float(np.linalg.norm(offset)) - self.mug.radius_m - self.saucer.radius_m
        return gap > _CLEARANCE_M

    def status(self, state: SceneState) -> TaskStatus:
        X_TM = state.poses[self.mug.name]
        X_TS = state.poses[self.saucer.name]
        p_saucer = np.linalg.inv(X_TS) @ X_TM[:, 3]
        offset_m = float(np.linalg.norm(p_saucer[:2]))
        upright = bool(X_TM[2, 2] > _MIN_UPRIGHT_COSINE)
        centred = offset_m < _MAX_OFFSET_M
        supported = (
            state.touching(self.mug.name, self.saucer.name)
            and abs(p_saucer[2] - self.saucer.height_m) < _HEIGHT_TOLERANCE_M
        )
        released = self.mug.name not in state.finger_contacts
        at_rest = (
            state.speed_m_s(self.mug.name) < _REST_SPEED_M_S
            and state.angular_speed_rad_s(self.mug.name) < _REST_ANGULAR_SPEED_RAD_S
        )
        return TaskStatus(
            success=upright and centred and supported and released and at_rest,
            failed=fell_off_table(X_TM) or fell_off_table(X_TS),
            predicates={
                "mug_upright": upright,
                "mug_over_saucer": centred,
                "mug_on_saucer": supported,
                "mug_released": released,
                "mug_at_rest": at_rest,
                "mug_lifted": bool(X_TM[2, 3] > 0.03),
                "mug_to_saucer_m": offset_m,
            },
        )
