"""The true state of a scene at one instant, and the poses that scenes are made of."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import sqrt

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
TABLE = "table"


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneState:
    """What is true of the objects at one instant, T being the task frame.

    poses: X_TO (4, 4) by object. velocities: (6,) by object in T, angular (rad/s), linear (m/s).
    contacts: pairs of objects (or "table") that touch, in alphabetical order.
    finger_contacts, arm_contacts: (side, object) pairs, "right" or "left" first: which fingers
    touch what, and which arms do with any part, fingers included.
    fastest_fall_m_s: by object, the greatest downward speed since the episode began.
    """

    poses: Mapping[str, Array]
    velocities: Mapping[str, Array]
    contacts: frozenset[tuple[str, str]]
    finger_contacts: frozenset[tuple[str, str]] = frozenset()
    arm_contacts: frozenset[tuple[str, str]] = frozenset()
    fastest_fall_m_s: Mapping[str, float] = field(default_factory=dict)

    def position_m(self, name: str) -> Array:
        """(3,) of the object's origin in T."""
        return self.poses[name][:3, 3]

    def speed_m_s(self, name: str) -> float:
        return length(self.velocities[name][3:])

    def angular_speed_rad_s(self, name: str) -> float:
        return length(self.velocities[name][:3])

    def touching(self, first: str, second: str) -> bool:
        return (min(first, second), max(first, second)) in self.contacts

    def fingers_touch(self, name: str, *, side: str | None = None) -> bool:
        """Whether a finger, of this side's hand where one is named, touches the object."""
        sides = ("right", "left") if side is None else (side,)
        return any((each, name) in self.finger_contacts for each in sides)

    def pose_in(self, frame: str, name: str) -> Array:
        """X_FO (4, 4): the object `name` in the frame of the object `frame`."""
        return np.linalg.inv(self.poses[frame]) @ self.poses[name]


def length(vector: Array) -> float:
    """As `numpy.linalg.norm`, to the bit, in a fourth of its time."""
    return sqrt(vector.dot(vector))


def planar_pose(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> Array:
    """X_TO (4, 4) of an upright object."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array(
        [[c, -s, 0.0, x_m], [s, c, 0.0, y_m], [0.0, 0.0, 1.0, z_m], [0.0, 0.0, 0.0, 1.0]]
    )


def yaw_of(X: Array) -> float:
    """The angle (rad) about z of the frame's x axis, seen from above."""
    return float(np.arctan2(X[1, 0], X[0, 0]))


def fell_off_table(X_TO: Array) -> bool:
    """Whether an object has left the table's top for good."""
    return bool(X_TO[2, 3] < -0.05)
