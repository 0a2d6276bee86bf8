"""How many control steps one motion follows another, by cross-correlation of their velocities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from policy_interface.types import FloatArray


@dataclass(frozen=True, kw_only=True)
class Correlation:
    """At lags -L to L: how `follower` at step t + lag goes with `leader` at step t.

    products: (2L + 1,) sums over steps. leader_power, follower_powers: sums of squares over the
    same steps. Kept apart, so that episodes add up.
    """

    products: FloatArray
    leader_power: float
    follower_powers: FloatArray

    def __add__(self, other: Correlation) -> Correlation:
        return Correlation(
            products=self.products + other.products,
            leader_power=self.leader_power + other.leader_power,
            follower_powers=self.follower_powers + other.follower_powers,
        )

    @property
    def coefficients(self) -> FloatArray:
        """(2L + 1,) within [-1, 1]."""
        return self.products / np.sqrt(np.maximum(self.leader_power * self.follower_powers, 1e-30))

    @property
    def peak(self) -> tuple[float, float]:
        """The lag in steps, to a fraction of one, and the coefficient there."""
        coefficients = self.coefficients
        top = int(np.argmax(coefficients))
        lag = float(top - len(coefficients) // 2)
        if 0 < top < len(coefficients) - 1:
            before, at, after = coefficients[top - 1 : top + 2]
            curvature = before - 2 * at + after
            if curvature < 0:
                # The vertex of the parabola through three points.
                lag += float(0.5 * (before - after) / curvature)
        return lag, float(coefficients[top])


def correlate(leader: FloatArray, follower: FloatArray, max_lag: int) -> Correlation | None:
    """Of two velocities, (T, D) each, over the leader's steps that every lag reaches.

    None where an episode is too short to tell, or one of the two stands still.
    """
    inner = leader[max_lag : len(leader) - max_lag]
    if len(inner) < max_lag or not inner.any() or not follower.any():
        return None
    shifted = [
        follower[max_lag + lag : len(follower) - max_lag + lag]
        for lag in range(-max_lag, max_lag + 1)
    ]
    return Correlation(
        products=np.array([float((inner * moved).sum()) for moved in shifted]),
        leader_power=float((inner**2).sum()),
        follower_powers=np.array([float((moved**2).sum()) for moved in shifted]),
    )
