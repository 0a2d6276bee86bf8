"""The Franka Panda's published kinematics: joint origins, limits, forward kinematics, Jacobian.

Numbers are from Franka Emika's public URDF and its data sheet ("Robot and interface
specifications"). Frames: B is the arm's base (link 0), E is `panda_link8`, the flange frame that
actions and observations speak about, C is the tool centre point between the finger pads.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import cos, sin
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from sim_client.station.damped_least_squares import Column

Array = NDArray[np.float64]

NUM_JOINTS = 7


@dataclass(frozen=True, kw_only=True)
class JointSpec:
    """One revolute joint: its frame in the parent link (m, rad about x), and its limits (SI)."""

    origin_m: tuple[float, float, float]
    roll_rad: float
    lower_rad: float
    upper_rad: float
    velocity_rad_s: float
    effort_nm: float


_QUARTER = np.pi / 2

JOINTS: tuple[JointSpec, ...] = (
    JointSpec(
        origin_m=(0.0, 0.0, 0.333),
        roll_rad=0.0,
        lower_rad=-2.8973,
        upper_rad=2.8973,
        velocity_rad_s=2.175,
        effort_nm=87.0,
    ),
    JointSpec(
        origin_m=(0.0, 0.0, 0.0),
        roll_rad=-_QUARTER,
        lower_rad=-1.7628,
        upper_rad=1.7628,
        velocity_rad_s=2.175,
        effort_nm=87.0,
    ),
    JointSpec(
        origin_m=(0.0, -0.316, 0.0),
        roll_rad=_QUARTER,
        lower_rad=-2.8973,
        upper_rad=2.8973,
        velocity_rad_s=2.175,
        effort_nm=87.0,
    ),
    JointSpec(
        origin_m=(0.0825, 0.0, 0.0),
        roll_rad=_QUARTER,
        lower_rad=-3.0718,
        upper_rad=-0.0698,
        velocity_rad_s=2.175,
        effort_nm=87.0,
    ),
    JointSpec(
        origin_m=(-0.0825, 0.384, 0.0),
        roll_rad=-_QUARTER,
        lower_rad=-2.8973,
        upper_rad=2.8973,
        velocity_rad_s=2.61,
        effort_nm=12.0,
    ),
    JointSpec(
        origin_m=(0.0, 0.0, 0.0),
        roll_rad=_QUARTER,
        lower_rad=-0.0175,
        upper_rad=3.7525,
        velocity_rad_s=2.61,
        effort_nm=12.0,
    ),
    JointSpec(
        origin_m=(0.088, 0.0, 0.0),
        roll_rad=_QUARTER,
        lower_rad=-2.8973,
        upper_rad=2.8973,
        velocity_rad_s=2.61,
        effort_nm=12.0,
    ),
)

LOWER_RAD: Array = np.array([joint.lower_rad for joint in JOINTS])
UPPER_RAD: Array = np.array([joint.upper_rad for joint in JOINTS])
VELOCITY_RAD_S: Array = np.array([joint.velocity_rad_s for joint in JOINTS])
EFFORT_NM: Array = np.array([joint.effort_nm for joint in JOINTS])

FLANGE_OFFSET_M = 0.107
"""Link 7 to link 8, along z."""
HAND_YAW_RAD = -np.pi / 4
"""The hand is mounted on link 8 turned by -45 degrees about z."""
FINGER_ORIGIN_M = 0.0584
"""The hand's frame to a finger's frame, along the hand's z; fingers slide along its y."""
TCP_OFFSET_M = 0.1034
"""The hand's frame to the tool centre point between the pads, along the hand's z."""
MAX_FINGER_TRAVEL_M = 0.04
MAX_GRIPPER_WIDTH_M = 2 * MAX_FINGER_TRAVEL_M


def _translation_along_z(offset_m: float) -> Array:
    X = np.eye(4)
    X[2, 3] = offset_m
    return X


# What is not zero among the joints' origins in their parent links (m).
_BASE_M = JOINTS[0].origin_m[2]
_UPPER_ARM_M = JOINTS[2].origin_m[1]
_ELBOW_M = JOINTS[3].origin_m[0]
_FOREARM_BACK_M, _FOREARM_M, _ = JOINTS[4].origin_m
_WRIST_M = JOINTS[6].origin_m[0]


def _yaw(angle_rad: float) -> Array:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    X = np.eye(4)
    X[:2, :2] = [[c, -s], [s, c]]
    return X


X_EC: Array = _yaw(HAND_YAW_RAD) @ _translation_along_z(TCP_OFFSET_M)
"""The tool centre point in `panda_link8`, a 4x4 homogeneous transform."""


class Chain(NamedTuple):
    """The flange's X_BE, row by row, and the Jacobian's columns, in plain numbers.

    For seven joints these are several times faster than arrays of numpy.
    """

    flange: tuple[float, ...]
    columns: list[Column]


def chain(q: Sequence[float]) -> Chain:
    """X_BE (16 numbers) and the geometric Jacobian's columns, for joint angles q (7,) in radians.

    A column, in B: the velocity of the flange's origin (m/s per rad/s), then its angular velocity.
    """
    # The columns x, y, z of the rotation so far; a joint's origin p and axis z have its number.
    # Each rolls by a quarter about x, which swaps y and z, and turns about the new z. Written out,
    # without what is zero or one, this takes half as long as a loop over `JOINTS`.
    q1, q2, q3, q4, q5, q6, q7 = q
    cos_q, sin_q = cos(q1), sin(q1)
    # Joint 2, rolled by -90 degrees.
    z2_0, z2_1 = -sin_q, cos_q
    cos_q2, sin_q2 = cos(q2), sin(q2)
    x0, x1, x2 = cos_q2 * cos_q, cos_q2 * sin_q, -sin_q2
    y0, y1, y2 = -sin_q2 * cos_q, -sin_q2 * sin_q, -cos_q2
    # Joint 3, by +90.
    p3_0, p3_1, p3_2 = _UPPER_ARM_M * y0, _UPPER_ARM_M * y1, _BASE_M + _UPPER_ARM_M * y2
    z3_0, z3_1, z3_2 = -y0, -y1, -y2
    cos_q, sin_q = cos(q3), sin(q3)
    x0, y0 = cos_q * x0 + sin_q * z2_0, cos_q * z2_0 - sin_q * x0
    x1, y1 = cos_q * x1 + sin_q * z2_1, cos_q * z2_1 - sin_q * x1
    x2, y2 = cos_q * x2, -sin_q * x2
    # Joint 4, by +90.
    p4_0, p4_1, p4_2 = p3_0 + _ELBOW_M * x0, p3_1 + _ELBOW_M * x1, p3_2 + _ELBOW_M * x2
    z4_0, z4_1, z4_2 = -y0, -y1, -y2
    cos_q, sin_q = cos(q4), sin(q4)
    x0, y0 = cos_q * x0 + sin_q * z3_0, cos_q * z3_0 - sin_q * x0
    x1, y1 = cos_q * x1 + sin_q * z3_1, cos_q * z3_1 - sin_q * x1
    x2, y2 = cos_q * x2 + sin_q * z3_2, cos_q * z3_2 - sin_q * x2
    # Joint 5, by -90.
    p5_0 = p4_0 + (_FOREARM_BACK_M * x0 + _FOREARM_M * y0)
    p5_1 = p4_1 + (_FOREARM_BACK_M * x1 + _FOREARM_M * y1)
    p5_2 = p4_2 + (_FOREARM_BACK_M * x2 + _FOREARM_M * y2)
    z5_0, z5_1, z5_2 = y0, y1, y2
    cos_q, sin_q = cos(q5), sin(q5)
    x0, y0 = cos_q * x0 - sin_q * z4_0, -cos_q * z4_0 - sin_q * x0
    x1, y1 = cos_q * x1 - sin_q * z4_1, -cos_q * z4_1 - sin_q * x1
    x2, y2 = cos_q * x2 - sin_q * z4_2, -cos_q * z4_2 - sin_q * x2
    # Joint 6, by +90, where joint 5 is.
    z6_0, z6_1, z6_2 = -y0, -y1, -y2
    cos_q, sin_q = cos(q6), sin(q6)
    x0, y0 = cos_q * x0 + sin_q * z5_0, cos_q * z5_0 - sin_q * x0
    x1, y1 = cos_q * x1 + sin_q * z5_1, cos_q * z5_1 - sin_q * x1
    x2, y2 = cos_q * x2 + sin_q * z5_2, cos_q * z5_2 - sin_q * x2
    # Joint 7, by +90, and the flange's origin e.
    p7_0, p7_1, p7_2 = p5_0 + _WRIST_M * x0, p5_1 + _WRIST_M * x1, p5_2 + _WRIST_M * x2
    z7_0, z7_1, z7_2 = -y0, -y1, -y2
    cos_q, sin_q = cos(q7), sin(q7)
    x0, y0 = cos_q * x0 + sin_q * z6_0, cos_q * z6_0 - sin_q * x0
    x1, y1 = cos_q * x1 + sin_q * z6_1, cos_q * z6_1 - sin_q * x1
    x2, y2 = cos_q * x2 + sin_q * z6_2, cos_q * z6_2 - sin_q * x2
    e0 = p7_0 + FLANGE_OFFSET_M * z7_0
    e1 = p7_1 + FLANGE_OFFSET_M * z7_1
    e2 = p7_2 + FLANGE_OFFSET_M * z7_2
    flange = (x0, y0, z7_0, e0, x1, y1, z7_1, e1, x2, y2, z7_2, e2, 0.0, 0.0, 0.0, 1.0)
    # From each joint to the flange.
    r2 = e2 - _BASE_M
    r3_0, r3_1, r3_2 = e0 - p3_0, e1 - p3_1, e2 - p3_2
    r4_0, r4_1, r4_2 = e0 - p4_0, e1 - p4_1, e2 - p4_2
    r5_0, r5_1, r5_2 = e0 - p5_0, e1 - p5_1, e2 - p5_2
    r7_0, r7_1, r7_2 = e0 - p7_0, e1 - p7_1, e2 - p7_2
    columns = [
        (-e1, e0, 0.0, 0.0, 0.0, 1.0),
        (z2_1 * r2, -z2_0 * r2, z2_0 * e1 - z2_1 * e0, z2_0, z2_1, 0.0),
        _column(z3_0, z3_1, z3_2, r3_0, r3_1, r3_2),
        _column(z4_0, z4_1, z4_2, r4_0, r4_1, r4_2),
        _column(z5_0, z5_1, z5_2, r5_0, r5_1, r5_2),
        _column(z6_0, z6_1, z6_2, r5_0, r5_1, r5_2),
        _column(z7_0, z7_1, z7_2, r7_0, r7_1, r7_2),
    ]
    return Chain(flange, columns)


def _column(z0: float, z1: float, z2: float, r0: float, r1: float, r2: float) -> Column:
    """Of a joint that turns about the axis z, with the flange's origin at r from the joint's."""
    return z1 * r2 - z2 * r1, z2 * r0 - z0 * r2, z0 * r1 - z1 * r0, z0, z1, z2


def forward_kinematics(q: Array) -> Array:
    """`panda_link8` in the arm's base, X_BE, (4, 4), for joint angles q (7,) in radians."""
    return np.array(chain(q.tolist()).flange).reshape(4, 4)
