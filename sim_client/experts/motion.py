"""One arm's smooth motion, a control step at a time, from where the hand is toward a goal."""

from __future__ import annotations

import numpy as np

from policy_interface.types import Pose, RobotState
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import tool_down
from sim_client.station.inverse_kinematics import rotation_from_vector, rotation_vector
from sim_client.station.panda_kinematics import Array
from sim_client.station.station import ARM_NAMES, GRIPPER_NAMES

_MAX_STEP_M = 0.030
_MAX_ACCELERATION_M = 0.012
_MAX_TURN_RAD = 0.16
_GAIN = 0.55

OPEN_WIDTH_M = panda.MAX_GRIPPER_WIDTH_M


def hand_down(position_m: Array, yaw_rad: float) -> Array:
    """X_TC (4, 4) of the tool centre point with the hand pointing straight down at this yaw."""
    return tool_down(position_m, yaw_rad) @ panda.X_EC


def tilted(X_TC: Array, pitch_rad: float) -> Array:
    """X_TC turned about its own y axis, the fingers' line, with the tool centre point in place."""
    c, s = np.cos(pitch_rad), np.sin(pitch_rad)
    turned = X_TC.copy()
    turned[:3, :3] = X_TC[:3, :3] @ np.array([[c, 0.0, s], [0.0, 1.0, 0.0], [-s, 0.0, c]])
    return turned


def tool_pose(side: str, actual: RobotState) -> Array:
    """X_TC (4, 4): where the tool centre point of this side's hand is."""
    return actual.poses[ARM_NAMES[side]].matrix() @ panda.X_EC


def gripper_width_m(side: str, actual: RobotState) -> float:
    return actual.gripper_widths_m[GRIPPER_NAMES[side]]


def turn_between(R_from: Array, R_to: Array) -> Array:
    """The rotation vector (rad, in T) from one orientation (3, 3) to another."""
    return rotation_vector(R_to @ R_from.T)


class ArmMotion:
    """Bounded speed, acceleration and turning; its only memory is the speed it has.

    gain: the share of the way that is left which one control step asks for.
    """

    def __init__(
        self,
        *,
        max_step_m: float = _MAX_STEP_M,
        max_acceleration_m: float = _MAX_ACCELERATION_M,
        gain: float = _GAIN,
    ) -> None:
        self._max_step_m = max_step_m
        self._max_acceleration_m = max_acceleration_m
        self._gain = gain
        self.reset()

    def reset(self) -> None:
        self._velocity_m = np.zeros(3)

    def toward(self, X_TC: Array, X_TC_goal: Array, *, max_step_m: float | None = None) -> Pose:
        """The flange pose to command for the next control step.

        X_TC: where the tool centre point is, as measured; X_TC_goal: where it should end up.
        max_step_m: a lower speed than the arm's own, where care is needed.
        """
        limit_m = min(self._max_step_m, max_step_m or self._max_step_m)
        wanted = self._gain * (X_TC_goal[:3, 3] - X_TC[:3, 3])
        wanted *= min(1.0, limit_m / max(float(np.linalg.norm(wanted)), 1e-9))
        change = wanted - self._velocity_m
        change *= min(1.0, self._max_acceleration_m / max(float(np.linalg.norm(change)), 1e-9))
        self._velocity_m = self._velocity_m + change
        turn = turn_between(X_TC[:3, :3], X_TC_goal[:3, :3])
        turn *= min(self._gain, _MAX_TURN_RAD / max(float(np.linalg.norm(turn)), 1e-9))
        X = np.eye(4)
        X[:3, :3] = rotation_from_vector(turn) @ X_TC[:3, :3]
        X[:3, 3] = X_TC[:3, 3] + self._velocity_m
        return Pose.from_matrix(X @ np.linalg.inv(panda.X_EC))
