"""Differential inverse kinematics of one arm: an end-effector command to joint commands.

Damped least squares, integrated on the *commanded* joint angles, with the spare degree of freedom
pulling toward a comfortable posture. Every tick keeps the joints inside their position limits and
under their velocity limits, whatever is asked, so that a wild command moves the arm slowly in
its direction and never beyond what the real robot could do.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import acos, cos, pi, sin, sqrt

import numpy as np

from sim_client.station import panda_kinematics as panda
from sim_client.station.damped_least_squares import Column, damped_least_squares
from sim_client.station.panda_kinematics import Array


@dataclass(frozen=True, kw_only=True)
class InverseKinematicsLimits:
    """What the arm may do; the defaults are those of the real robot with a margin.

    posture_rate_hz: how fast the null space is pulled toward the posture.
    workspace_*_m: the box, in the frame of the targets, that targets are clipped to.
    """

    linear_speed_m_s: float = 0.6
    angular_speed_rad_s: float = 2.2
    joint_speed_scale: float = 0.9
    joint_margin_rad: float = 0.03
    damping: float = 0.02
    posture_rate_hz: float = 1.0
    workspace_lower_m: tuple[float, float, float] = (-0.40, -0.70, 0.05)
    workspace_upper_m: tuple[float, float, float] = (0.30, 0.70, 0.90)

    def clip_to_workspace(self, position_m: Array) -> Array:
        return np.clip(position_m, self.workspace_lower_m, self.workspace_upper_m)


def rotation_vector(R: Array) -> Array:
    """The axis times the angle (rad, 0 to pi) of a rotation matrix; (3,)."""
    (a, b, c), (d, e, f), (g, h, i) = R.tolist()
    x, y, z = h - f, c - g, d - b
    cosine = min(1.0, max(-1.0, (a + e + i - 1.0) / 2.0))
    angle = acos(cosine)
    if angle > pi - 1e-3:
        # Near half a turn the antisymmetric part vanishes; R + R^T still holds the axis.
        symmetric = (R + R.T) / 2.0
        column = int(np.argmax(np.diag(symmetric)))
        axis = symmetric[:, column] + np.eye(3)[:, column]
        axis /= np.linalg.norm(axis)
        return angle * (axis if axis @ [x, y, z] >= 0 else -axis)
    scale = 0.5 if angle < 1e-6 else angle / (2.0 * sin(angle))
    return np.array([scale * x, scale * y, scale * z])


def rotation_from_vector(vector: Array) -> Array:
    """Rodrigues' formula; inverse of `rotation_vector`."""
    x, y, z = vector.tolist()
    angle = sqrt(x * x + y * y + z * z)
    if angle < 1e-12:
        return np.eye(3)
    x, y, z = x / angle, y / angle, z / angle
    s, c = sin(angle), cos(angle)
    t = 1.0 - c
    return np.array(
        [
            [c + t * x * x, t * x * y - s * z, t * x * z + s * y],
            [t * x * y + s * z, c + t * y * y, t * y * z - s * x],
            [t * x * z - s * y, t * y * z + s * x, c + t * z * z],
        ]
    )


def _way_between(X: Sequence[float], X_target: Sequence[float]) -> tuple[list[float], list[float]]:
    """Translation (m) and rotation vector (rad) from one pose to another, each 16 numbers.

    The same as differences and `rotation_vector` give, in a third of the time.
    """
    a0, a1, a2, ap, b0, b1, b2, bp, c0, c1, c2, cp, *_ = X
    d0, d1, d2, dp, e0, e1, e2, ep, f0, f1, f2, fp, *_ = X_target
    trace = a0 * d0 + a1 * d1 + a2 * d2 + b0 * e0 + b1 * e1 + b2 * e2 + c0 * f0 + c1 * f1 + c2 * f2
    angle = acos(min(1.0, max(-1.0, (trace - 1.0) / 2.0)))
    if angle > pi - 1e-3:
        R, R_target = (np.reshape(each, (4, 4))[:3, :3] for each in (X, X_target))
        rotation = rotation_vector(R_target @ R.T).tolist()
    else:
        scale = 0.5 if angle < 1e-6 else angle / (2.0 * sin(angle))
        # The antisymmetric part of the one rotation times the other's inverse.
        rotation = [
            scale * (b0 * f0 + b1 * f1 + b2 * f2 - c0 * e0 - c1 * e1 - c2 * e2),
            scale * (c0 * d0 + c1 * d1 + c2 * d2 - a0 * f0 - a1 * f1 - a2 * f2),
            scale * (a0 * e0 + a1 * e1 + a2 * e2 - b0 * d0 - b1 * d1 - b2 * d2),
        ]
    return [dp - ap, ep - bp, fp - cp], rotation


def _is_same(X: Sequence[float], Y: Sequence[float]) -> bool:
    """But for rounding: a pose that is asked for again may have been through other frames."""
    return all(-1e-9 < x - y < 1e-9 for x, y in zip(X, Y, strict=True))


def _capped(vector: list[float], length: float) -> list[float]:
    x, y, z = vector
    norm = sqrt(x * x + y * y + z * z)
    if norm <= length:
        return vector
    factor = length / norm
    return [factor * x, factor * y, factor * z]


class DifferentialInverseKinematics:
    """Follows targets X_BE with joint commands, one tick at a time, all in plain numbers.

    posture: the joint angles (7,) that the null space prefers. `angles` and `rates` (7 each, rad
    and rad/s) are the command and how fast it changes.
    """

    def __init__(self, *, posture: Array, limits: InverseKinematicsLimits | None = None) -> None:
        self.limits = limits = limits or InverseKinematicsLimits()
        self._lower = (panda.LOWER_RAD + limits.joint_margin_rad).tolist()
        self._upper = (panda.UPPER_RAD - limits.joint_margin_rad).tolist()
        self._speed_rad_s = (panda.VELOCITY_RAD_S * limits.joint_speed_scale).tolist()
        self._posture: list[float] = posture.tolist()
        self.reset(posture)

    def reset(self, q: Array) -> None:
        """Start from the joint angles q (7,), at rest."""
        self.angles: list[float] = q.tolist()
        self.rates = [0.0] * panda.NUM_JOINTS
        self._settled_at: Sequence[float] | None = None

    @property
    def q(self) -> Array:
        """The command's joint angles (7,)."""
        return np.array(self.angles)

    @property
    def qdot(self) -> Array:
        """Their rates (7,)."""
        return np.array(self.rates)

    def step(self, X_BE_target: Array, dt_s: float) -> Array:
        """One tick of dt_s seconds toward the target (4, 4); returns the joint command (7,)."""
        self.step_toward(X_BE_target.ravel().tolist(), dt_s)
        return self.q

    def step_toward(self, X_BE_target: Sequence[float], dt_s: float) -> None:
        """One tick of dt_s seconds toward the target, its 16 numbers row by row."""
        if self._settled_at is not None and _is_same(X_BE_target, self._settled_at):
            return
        limits = self.limits
        X_BE, columns = panda.chain(self.angles)
        translation, rotation = _way_between(X_BE, X_BE_target)
        move = [
            *_capped(translation, limits.linear_speed_m_s * dt_s),
            *_capped(rotation, limits.angular_speed_rad_s * dt_s),
        ]
        share = limits.posture_rate_hz * dt_s
        toward_posture = [
            share * (preferred - angle)
            for preferred, angle in zip(self._posture, self.angles, strict=True)
        ]
        changes = self._within_limits(columns, move, toward_posture)
        self._follow(changes, dt_s)
        if all(-_SETTLED_RAD < change < _SETTLED_RAD for change in changes):
            # An arm that waits, as the other one works, stays where it is instead of creeping on.
            self.rates = [0.0] * panda.NUM_JOINTS
            self._settled_at = X_BE_target

    def step_joints(self, q_target: Sequence[float], dt_s: float) -> None:
        """One tick of dt_s seconds straight toward joint angles (7,), within the same limits."""
        self._settled_at = None
        within = self._clipped(q_target)
        self._follow(
            [after - angle for after, angle in zip(within, self.angles, strict=True)], dt_s
        )

    def clip_to_limits(self, q: Array) -> Array:
        """The nearest joint angles (7,) that may be commanded."""
        return np.array(self._clipped(q.tolist()))

    def _clipped(self, q: Sequence[float]) -> list[float]:
        return [
            min(max(angle, low), high)
            for angle, low, high in zip(q, self._lower, self._upper, strict=True)
        ]

    def _within_limits(
        self, columns: list[Column], move: list[float], toward_posture: list[float]
    ) -> list[float]:
        """Joint changes (7,) that move the flange by `move` (6,), none of them out of its range."""
        damping = self.limits.damping**2
        changes = damped_least_squares(columns, move, toward_posture, damping)
        outside = self._leaving(changes)
        free = list(range(panda.NUM_JOINTS))
        # A joint that would leave its range is set on the limit, and the others solve for the
        # rest of the motion: an active set, at most one round per joint.
        while outside:
            for i in outside:
                after = min(max(self.angles[i] + changes[i], self._lower[i]), self._upper[i])
                changes[i] = after - self.angles[i]
                move = [m - changes[i] * c for m, c in zip(move, columns[i], strict=True)]
            free = [i for i in free if i not in outside]
            rest = damped_least_squares(
                [columns[i] for i in free], move, [toward_posture[i] for i in free], damping
            )
            for i, change in zip(free, rest, strict=True):
                changes[i] = change
            outside = [i for i in self._leaving(changes) if i in free]
        return changes

    def _leaving(self, changes: list[float]) -> list[int]:
        """Which joints these changes (7,) would take out of their ranges."""
        return [
            i
            for i, (angle, change, low, high) in enumerate(
                zip(self.angles, changes, self._lower, self._upper, strict=True)
            )
            if not low <= angle + change <= high
        ]

    def _follow(self, changes: list[float], dt_s: float) -> None:
        """Take the step, or as much of it as the joints' speeds allow."""
        # One factor for all joints keeps the direction of the end effector's motion.
        speeds = zip(changes, self._speed_rad_s, strict=True)
        excess = max([abs(change) / greatest for change, greatest in speeds]) / dt_s
        if excess > 1.0:
            changes = [change / excess for change in changes]
        after = [angle + change for angle, change in zip(self.angles, changes, strict=True)]
        self.angles = [
            low if angle < low else high if angle > high else angle
            for angle, low, high in zip(after, _LOWEST_RAD, _HIGHEST_RAD, strict=True)
        ]
        self.rates = [change / dt_s for change in changes]


_LOWEST_RAD: list[float] = panda.LOWER_RAD.tolist()
_HIGHEST_RAD: list[float] = panda.UPPER_RAD.tolist()
# Of a tick's greatest change: a tenth of a milliradian a second.
_SETTLED_RAD = 2e-6
_MAX_SOLVE_ITERATIONS = 400
# Toward the seed's posture first; then without that pull, which damping lets shift the flange
# where the arm is near a singularity.
_SOLVE_POSTURE_RATES_HZ = (0.5, 0.0)


def solve_pose(X_BE: Array, *, seed: Array, tolerance: float = 1e-4) -> Array:
    """Joint angles (7,) whose flange is at X_BE (4, 4), nearest to following from `seed` (7,).

    Raises ValueError where none is found within `tolerance` (m and rad): the pose is out of reach.
    """
    q = seed
    position_error = rotation_error = np.inf
    for posture_rate_hz in _SOLVE_POSTURE_RATES_HZ:
        follower = DifferentialInverseKinematics(
            posture=seed, limits=InverseKinematicsLimits(posture_rate_hz=posture_rate_hz)
        )
        follower.reset(q)
        for _ in range(_MAX_SOLVE_ITERATIONS):
            q = follower.step(X_BE, 0.05)
            X = panda.forward_kinematics(q)
            position_error = float(np.linalg.norm(X[:3, 3] - X_BE[:3, 3]))
            rotation_error = float(np.linalg.norm(rotation_vector(X_BE[:3, :3] @ X[:3, :3].T)))
            if position_error < tolerance and rotation_error < tolerance:
                return q
    raise ValueError(
        f"no joint angles reach the flange pose at {X_BE[:3, 3].round(3).tolist()} m: "
        f"{position_error:.4f} m and {rotation_error:.4f} rad remain"
    )
