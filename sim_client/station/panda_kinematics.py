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


# A joint's place in its parent link: origin (m), and cosine and sine of the roll.
_PLACES = tuple(
    (*spec.origin_m, float(np.cos(spec.roll_rad).round(15)), float(np.sin(spec.roll_rad)))
    for spec in JOINTS
)


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
    # The columns x, y, z of the rotation so far, and the position p.
    x0, x1, x2 = 1.0, 0.0, 0.0
    y0, y1, y2 = 0.0, 1.0, 0.0
    z0, z1, z2 = 0.0, 0.0, 1.0
    p0 = p1 = p2 = 0.0
    joints = []
    for angle, (a, b, c, cos_roll, sin_roll) in zip(q, _PLACES, strict=True):
        p0 += a * x0 + b * y0 + c * z0
        p1 += a * x1 + b * y1 + c * z1
        p2 += a * x2 + b * y2 + c * z2
        # Rolled about x ...
        y0, z0 = cos_roll * y0 + sin_roll * z0, cos_roll * z0 - sin_roll * y0
        y1, z1 = cos_roll * y1 + sin_roll * z1, cos_roll * z1 - sin_roll * y1
        y2, z2 = cos_roll * y2 + sin_roll * z2, cos_roll * z2 - sin_roll * y2
        # ... and turned about the new z, the joint's axis.
        cos_q, sin_q = cos(angle), sin(angle)
        x0, y0 = cos_q * x0 + sin_q * y0, cos_q * y0 - sin_q * x0
        x1, y1 = cos_q * x1 + sin_q * y1, cos_q * y1 - sin_q * x1
        x2, y2 = cos_q * x2 + sin_q * y2, cos_q * y2 - sin_q * x2
        joints.append((z0, z1, z2, p0, p1, p2))
    e0 = p0 + FLANGE_OFFSET_M * z0
    e1 = p1 + FLANGE_OFFSET_M * z1
    e2 = p2 + FLANGE_OFFSET_M * z2
    flange = (x0, y0, z0, e0, x1, y1, z1, e1, x2, y2, z2, e2, 0.0, 0.0, 0.0, 1.0)
    columns = [
        (
            z1 * (e2 - p2) - z2 * (e1 - p1),
            z2 * (e0 - p0) - z0 * (e2 - p2),
            z0 * (e1 - p1) - z1 * (e0 - p0),
            z0,
            z1,
            z2,
        )
        for z0, z1, z2, p0, p1, p2 in joints
    ]
    return Chain(flange, columns)


def forward_kinematics(q: Array) -> Array:
    """`panda_link8` in the arm's base, X_BE, (4, 4), for joint angles q (7,) in radians."""
    return np.array(chain(q.tolist()).flange).reshape(4, 4)
