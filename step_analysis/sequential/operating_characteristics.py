"""Exact operating characteristics of a boundary, by a recursion that shares no code with it."""

from dataclasses import dataclass

import numpy as np

from step_analysis.sequential.step_synthesis import StepBoundary


@dataclass(frozen=True, kw_only=True)
class OperatingCharacteristics:
    """What a mirrored test does at given true rates; arrays of one shape, one entry a pair."""

    arm1_better: np.ndarray
    """Probability of the verdict +1."""
    arm0_better: np.ndarray
    """Probability of the verdict -1."""
    expected_time: np.ndarray
    """Expected number of episodes of each arm, up to n_max."""


def operating_characteristics(
    boundary: StepBoundary, p0: np.ndarray | float, p1: np.ndarray | float
) -> OperatingCharacteristics:
    """Follow the law of (x, y) forward in time for each pair of true rates.

    Args:
        p0, p1: rates of both arms, broadcast against each other.

    Memory is 8 (n_max + 1)^2 bytes a pair, time grows with n_max^3 a pair.
    """
    rates0, rates1 = np.broadcast_arrays(np.asarray(p0, float), np.asarray(p1, float))
    a, b = rates0.reshape(-1, 1, 1), rates1.reshape(-1, 1, 1)
    n_max = boundary.n_max
    alive = np.zeros((a.shape[0], n_max + 1, n_max + 1))
    alive[:, 0, 0] = 1.0
    up, down, time = np.zeros(a.shape[0]), np.zeros(a.shape[0]), np.zeros(a.shape[0])
    y = np.arange(n_max + 1)
    for t in range(1, n_max + 1):
        time += alive.sum(axis=(1, 2))
        moved = alive * (1.0 - a)
        moved[:, 1:] += alive[:, :-1] * a
        alive = moved * (1.0 - b)
        alive[:, :, 1:] += moved[:, :, :-1] * b
        stops = y[None, :] >= boundary.stop_at[t][:, None]
        up += alive[:, stops].sum(axis=1)
        down += alive[:, stops.T].sum(axis=1)
        alive[:, stops | stops.T] = 0.0
    shape = rates0.shape
    return OperatingCharacteristics(
        arm1_better=up.reshape(shape),
        arm0_better=down.reshape(shape),
        expected_time=time.reshape(shape),
    )
