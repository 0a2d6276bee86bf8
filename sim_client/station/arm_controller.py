"""One arm's command at 50 Hz: an end-effector target and a gripper width, within limits."""

from __future__ import annotations

from math import cos, sin, sqrt
from typing import NamedTuple

import numpy as np

from sim_client.station import panda_kinematics as panda
from sim_client.station.inverse_kinematics import (
    DifferentialInverseKinematics,
    InverseKinematicsLimits,
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
        self.X_TB[:3, 3] = self._base_m = base_position_m
        self._limits = limits or InverseKinematicsLimits()
        self._kinematics = DifferentialInverseKinematics(posture=POSTURE, limits=self._limits)
        self._rest_at(self.X_TB @ panda.forward_kinematics(POSTURE), panda.MAX_GRIPPER_WIDTH_M)

    def _rest_at(self, X_TE: Array, width_m: float) -> None:
        self.X_TE_target = X_TE
        self._way = _Way(X_TE, X_TE, self._base_m)
        self._q_start: list[float] = []
        self._q_target: list[float] | None = None
        self._num_time_steps = self._time_steps_left = 0
        self.width_target_m = self.width_m = width_m
        self._former: ArmCommand | None = None
        self._former_joints: list[float] = []

    @property
    def q(self) -> Array:
        return self._kinematics.q

    @property
    def qdot(self) -> Array:
        return self._kinematics.qdot

    def command(self) -> ArmCommand:
        """What the servos are given in this tick; what stays as it was is the same array again."""
        former, kinematics = self._former, self._kinematics
        joints = kinematics.angles + kinematics.rates
        travel_m = self.width_m / 2.0
        if former is None or joints != self._former_joints:
            self._former_joints = joints
            former = ArmCommand(np.array(joints), self._fingers(former, travel_m))
        elif travel_m != former.fingers[0]:
            former = ArmCommand(former.joints, self._fingers(former, travel_m))
        self._former = former
        return former

    def _fingers(self, former: ArmCommand | None, travel_m: float) -> Array:
        if former is not None and former.fingers[0] == travel_m:
            return former.fingers
        return np.array([travel_m, travel_m, 0.0, 0.0])

    def reset(self, X_TE: Array, width_m: float) -> None:
        """Start at rest at X_TE (4, 4). Raises ValueError where it is out of reach."""
        self._kinematics.reset(solve_pose(np.linalg.inv(self.X_TB) @ X_TE, seed=POSTURE))
        self._rest_at(X_TE, width_m)

    def set_target(self, X_TE: Array, width_m: float, *, num_time_steps: int) -> None:
        """Go from the previous target to X_TE over the next time steps of the physics."""
        before = self.X_TE_target
        target = X_TE.copy()
        target[:3, 3] = self._limits.clip_to_workspace(X_TE[:3, 3])
        self.X_TE_target = target
        self._way = _Way(before, target, self._base_m)
        self._q_target = None
        self._begin(width_m, num_time_steps)

    def set_joint_target(self, q: Array, width_m: float, *, num_time_steps: int) -> None:
        """Go from the joints' present command to q (7,) over the next time steps of the physics."""
        target = self._kinematics.clip_to_limits(q)
        self._q_start, self._q_target = self._kinematics.angles, target.tolist()
        self.X_TE_target = self.X_TB @ panda.forward_kinematics(target)
        self._begin(width_m, num_time_steps)

    def _begin(self, width_m: float, num_time_steps: int) -> None:
        self.width_target_m = min(max(float(width_m), 0.0), panda.MAX_GRIPPER_WIDTH_M)
        self._num_time_steps = self._time_steps_left = num_time_steps

    def advance(self, num_time_steps: int) -> None:
        """Move the joint and gripper commands on by so many time steps of the physics."""
        dt_s = num_time_steps * TIME_STEP_S
        left = self._time_steps_left = max(0, self._time_steps_left - num_time_steps)
        share = 1.0 - left / self._num_time_steps if left > 0 else 1.0
        if self._q_target is not None:
            towards = [
                (1.0 - share) * start + share * end
                for start, end in zip(self._q_start, self._q_target, strict=True)
            ]
            self._kinematics.step_joints(towards, dt_s)
        else:
            self._kinematics.step_toward(self._way.at(share), dt_s)
        reach = GRIPPER_SPEED_M_S * dt_s
        self.width_m += min(max(self.width_target_m - self.width_m, -reach), reach)


class _Way:
    """Straight from one pose X_TE (4, 4) to another, turning about one axis at one rate.

    base_m: the arm's, whose axes are those of T: poses come out in B.
    """

    def __init__(self, X_start: Array, X_end: Array, base_m: Array) -> None:
        self._start = (X_start[:3, 3] - base_m).tolist()
        self._end = (X_end[:3, 3] - base_m).tolist()
        self._R_end = X_end[:3, :3].ravel().tolist()
        R_start = X_start[:3, :3]
        turn_rad = rotation_vector(X_end[:3, :3] @ R_start.T)
        x, y, z = turn_rad.tolist()
        self._angle_rad = sqrt(x * x + y * y + z * z)
        if self._angle_rad > 0.0:
            # Rodrigues' formula, as far as it is the same all the way: what stays, and what goes
            # with the cosine and with the sine of the angle.
            axis = turn_rad / self._angle_rad
            stays = np.outer(axis, axis @ R_start)
            x, y, z = axis.tolist()
            across = np.array([[0.0, -z, y], [z, 0.0, -x], [-y, x, 0.0]]) @ R_start
            self._parts = list(
                zip(
                    stays.ravel().tolist(),
                    (R_start - stays).ravel().tolist(),
                    across.ravel().tolist(),
                    strict=True,
                )
            )

    def at(self, share: float) -> list[float]:
        """X_BE, 16 numbers row by row, after this share of the way."""
        a, b, c, d, e, f, g, h, i = self._R_end
        if self._angle_rad > 0.0 and share < 1.0:
            angle = share * self._angle_rad
            cosine, sine = cos(angle), sin(angle)
            a, b, c, d, e, f, g, h, i = [
                still + cosine * flat + sine * across for still, flat, across in self._parts
            ]
        rest = 1.0 - share
        x, y, z = [
            rest * start + share * end for start, end in zip(self._start, self._end, strict=True)
        ]
        return [a, b, c, x, d, e, f, y, g, h, i, z, 0.0, 0.0, 0.0, 1.0]
