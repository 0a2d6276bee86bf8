"""One arm's command at 50 Hz: an end-effector target and a gripper width, within limits."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from sim_client.station import panda_kinematics as panda
from sim_client.station.inverse_kinematics import (
    DifferentialInverseKinematics,
    InverseKinematicsLimits,
    rotation_from_vector,
    rotation_vector,
    solve_pose,
)
from sim_client.station.panda_kinematics import Array
from sim_client.station.workspace import TIME_STEP_S

GRIPPER_SPEED_M_S = 0.25

POSTURE = np.array([0.0, -0.35, 0.0, -2.35, 0.0, 2.0, np.pi / 4])
"""The elbow-up posture that the spare degree of freedom prefers (rad)."""

# The tool centre point at the start of an episode, for the right arm; mirrored for the left.
_START_TCP_M = (-0.14, -0.30, 0.24)
_START_SPREAD_M = 0.025
_START_SPREAD_YAW_RAD = float(np.deg2rad(8.0))


def tool_down(position_m: Array, yaw_rad: float) -> Array:
    """X_TE (4, 4) of the flange with the tool pointing straight down.

    position_m: the tool centre point in T. yaw_rad: the hand's x axis, from T's x about z; the
    fingers slide across it.
    """
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    X_TC = np.eye(4)
    X_TC[:3, :3] = np.array([[c, s, 0.0], [s, -c, 0.0], [0.0, 0.0, -1.0]])
    X_TC[:3, 3] = position_m
    return X_TC @ np.linalg.inv(panda.X_EC)


def sample_start(side: str, rng: np.random.Generator) -> tuple[Array, float]:
    """A start pose X_RE (4, 4) near the station's own, and the open gripper's width (m)."""
    x, y, z = _START_TCP_M
    position = np.array([x, y if side == "right" else -y, z])
    position += rng.uniform(-_START_SPREAD_M, _START_SPREAD_M, size=3)
    yaw = rng.uniform(-_START_SPREAD_YAW_RAD, _START_SPREAD_YAW_RAD)
    return tool_down(position, yaw), panda.MAX_GRIPPER_WIDTH_M


class ArmCommand(NamedTuple):
    """Positions and velocities: (14,) of the joints (rad, rad/s), (4,) of the fingers (m, m/s)."""

    joints: Array
    fingers: Array


class ArmController:
    """Turns 10 Hz targets into smooth joint and finger commands.

    `q`, `qdot` (7,) are the joint command; `width_m` is the gripper's; `X_TE_target` and
    `width_target_m` are what was last asked, within the workspace.
    """

    def __init__(
        self, *, base_position_m: Array, limits: InverseKinematicsLimits | None = None
    ) -> None:
        self.X_TB = np.eye(4)
        self.X_TB[:3, 3] = base_position_m
        self._limits = limits or InverseKinematicsLimits()
        self._kinematics = DifferentialInverseKinematics(posture=POSTURE, limits=self._limits)
        self._rest_at(self.X_TB @ panda.forward_kinematics(POSTURE), panda.MAX_GRIPPER_WIDTH_M)

    def _rest_at(self, X_TE: Array, width_m: float) -> None:
        self.X_TE_target = self._X_TE_now = X_TE
        self._turn_rad = np.zeros(3)
        self._q_target: Array | None = None
        self._q_now = self._kinematics.q
        self._time_steps_left = 0
        self.width_target_m = self.width_m = width_m

    @property
    def q(self) -> Array:
        return self._kinematics.q

    @property
    def qdot(self) -> Array:
        return self._kinematics.qdot

    def command(self) -> ArmCommand:
        """What the servos are given in this tick."""
        travel_m = self.width_m / 2.0
        return ArmCommand(
            joints=np.concatenate([self.q, self.qdot]),
            fingers=np.array([travel_m, travel_m, 0.0, 0.0]),
        )

    def reset(self, X_TE: Array, width_m: float) -> None:
        """Start at rest at X_TE (4, 4). Raises ValueError where it is out of reach."""
        self._kinematics.reset(solve_pose(np.linalg.inv(self.X_TB) @ X_TE, seed=POSTURE))
        self._rest_at(X_TE, width_m)

    def set_target(self, X_TE: Array, width_m: float, *, num_time_steps: int) -> None:
        """Go from the previous target to X_TE over the next time steps of the physics."""
        self._X_TE_now = self.X_TE_target
        target = X_TE.copy()
        target[:3, 3] = self._limits.clip_to_workspace(X_TE[:3, 3])
        self.X_TE_target = target
        self._turn_rad = rotation_vector(target[:3, :3] @ self._X_TE_now[:3, :3].T)
        self._q_target = None
        self._set_width(width_m)
        self._time_steps_left = num_time_steps

    def set_joint_target(self, q: Array, width_m: float, *, num_time_steps: int) -> None:
        """Go from the joints' present command to q (7,) over the next time steps of the physics."""
        self._q_now = self._kinematics.q
        self._q_target = self._kinematics.clip_to_limits(q)
        self.X_TE_target = self.X_TB @ panda.forward_kinematics(self._q_target)
        self._set_width(width_m)
        self._time_steps_left = num_time_steps

    def _set_width(self, width_m: float) -> None:
        self.width_target_m = min(max(float(width_m), 0.0), panda.MAX_GRIPPER_WIDTH_M)

    def advance(self, num_time_steps: int) -> None:
        """Move the joint and gripper commands on by so many time steps of the physics."""
        dt_s = num_time_steps * TIME_STEP_S
        # What remains of the way is divided by the time that remains.
        left = self._time_steps_left
        share = min(1.0, num_time_steps / left) if left > 0 else 0.0
        if self._q_target is not None:
            self._q_now = self._q_now + share * (self._q_target - self._q_now)
            self._kinematics.step_joints(self._q_now, dt_s)
        else:
            if share > 0.0:
                self._X_TE_now = self._between(share)
            X_BE = self._X_TE_now.copy()
            # The bases are not turned.
            X_BE[:3, 3] -= self.X_TB[:3, 3]
            self._kinematics.step(X_BE, dt_s)
        self._time_steps_left = max(0, left - num_time_steps)
        reach = GRIPPER_SPEED_M_S * dt_s
        self.width_m += min(max(self.width_target_m - self.width_m, -reach), reach)

    def _between(self, share: float) -> Array:
        """X_TE (4, 4), this share of the remaining way nearer to the target."""
        if share == 1.0:
            return self.X_TE_target
        X = np.eye(4)
        X[:3, :3] = rotation_from_vector(share * self._turn_rad) @ self._X_TE_now[:3, :3]
        X[:3, 3] = (1.0 - share) * self._X_TE_now[:3, 3] + share * self.X_TE_target[:3, 3]
        self._turn_rad = (1.0 - share) * self._turn_rad
        return X
