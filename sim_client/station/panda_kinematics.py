"""The Franka Panda's published kinematics: joint origins, limits, forward kinematics, Jacobian.

Numbers are from Franka Emika's public URDF and its data sheet ("Robot and interface
specifications"). Frames: B is the arm's base (link 0), E is `panda_link8`, the flange frame that
actions and observations speak about, C is the tool centre point between the finger pads.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

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


def _fixed_transform(spec: JointSpec) -> Array:
    c, s = np.cos(spec.roll_rad), np.sin(spec.roll_rad)
    X = np.eye(4)
    X[:3, :3] = [[1.0, 0.0, 0.0], [0.0, c, -s], [0.0, s, c]]
    X[:3, 3] = spec.origin_m
    return X


def _translation_along_z(offset_m: float) -> Array:
    X = np.eye(4)
    X[2, 3] = offset_m
    return X


_FIXED = np.stack([_fixed_transform(spec) for spec in JOINTS])
_X_7E = _translation_along_z(FLANGE_OFFSET_M)


def _yaw(angle_rad: float) -> Array:
    c, s = np.cos(angle_rad), np.sin(angle_rad)
    X = np.eye(4)
    X[:2, :2] = [[c, -s], [s, c]]
    return X


X_EC: Array = _yaw(HAND_YAW_RAD) @ _translation_along_z(TCP_OFFSET_M)
"""The tool centre point in `panda_link8`, a 4x4 homogeneous transform."""


def _link_frames(q: Array) -> tuple[Array, Array]:
    """Link frames in B after each joint, (7, 4, 4), and the flange's, (4, 4)."""
    cosines, sines = np.cos(q), np.sin(q)
    turns = np.zeros((NUM_JOINTS, 4, 4))
    turns[:, 0, 0] = turns[:, 1, 1] = cosines
    turns[:, 0, 1] = -sines
    turns[:, 1, 0] = sines
    turns[:, 2, 2] = turns[:, 3, 3] = 1.0
    steps = _FIXED @ turns
    frames = np.empty((NUM_JOINTS, 4, 4))
    X = np.eye(4)
    for i in range(NUM_JOINTS):
        X = X @ steps[i]
        frames[i] = X
    return frames, X @ _X_7E


def forward_kinematics(q: Array) -> Array:
    """`panda_link8` in the arm's base, X_BE, (4, 4), for joint angles q (7,) in radians."""
    return _link_frames(np.asarray(q, dtype=np.float64))[1]


def jacobian(q: Array) -> tuple[Array, Array]:
    """X_BE, (4, 4), and the geometric Jacobian of `panda_link8` in B, (6, 7).

    Rows 0-2 are the linear velocity of the frame's origin (m/s per rad/s), rows 3-5 the angular
    velocity.
    """
    frames, X_BE = _link_frames(np.asarray(q, dtype=np.float64))
    axes = frames[:, :3, 2]
    arms = X_BE[:3, 3] - frames[:, :3, 3]
    J = np.empty((6, NUM_JOINTS))
    J[:3] = np.cross(axes, arms).T
    J[3:] = axes.T
    return X_BE, J
