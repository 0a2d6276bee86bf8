"""Noise on what a policy is shown; the world itself stays as it is."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from policy_interface.types import Observation, Pose, RobotState
from sim_client.station.inverse_kinematics import rotation_from_vector


@dataclass(frozen=True, kw_only=True)
class ObservationNoise:
    """Standard deviations of independent normal noise on the images and on what is measured.

    pixel: in steps of 255. position_m, rotation_rad: of an end effector's pose, a component.
    joint_rad: of a joint's angle. Gripper widths get position_m / 10; what was commanded, depth
    and labels get none.
    """

    pixel: float
    position_m: float
    rotation_rad: float
    joint_rad: float

    def on(self, observation: Observation, rng: np.random.Generator) -> Observation:
        return replace(
            observation,
            actual=self._measured(observation.actual, rng),
            cameras={
                name: replace(view, rgb=self._seen(view.rgb, rng))
                for name, view in observation.cameras.items()
            },
        )

    def _measured(self, state: RobotState, rng: np.random.Generator) -> RobotState:
        return replace(
            state,
            poses={
                arm: Pose(
                    rotation=rotation_from_vector(rng.normal(0.0, self.rotation_rad, 3))
                    @ pose.rotation,
                    translation_m=pose.translation_m + rng.normal(0.0, self.position_m, 3),
                )
                for arm, pose in state.poses.items()
            },
            gripper_widths_m={
                gripper: width_m + rng.normal(0.0, self.position_m / 10.0)
                for gripper, width_m in state.gripper_widths_m.items()
            },
            joint_positions_rad={
                arm: q + rng.normal(0.0, self.joint_rad, q.shape)
                for arm, q in state.joint_positions_rad.items()
            },
        )

    def _seen(self, rgb: npt.NDArray[np.uint8], rng: np.random.Generator) -> npt.NDArray[np.uint8]:
        noise = rng.standard_normal(rgb.shape, dtype=np.float32)
        return np.clip(np.rint(rgb + self.pixel * noise), 0, 255).astype(np.uint8)
