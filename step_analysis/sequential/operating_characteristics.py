"""The verifier: what any boundary does at any true rates, exactly."""

from dataclasses import dataclass

import numpy as np

from step_analysis.sequential.step_boundary import Boundary
from step_analysis.sequential.survival import BinomialLaws, advance, start


@dataclass(frozen=True, kw_only=True)
class OperatingCharacteristics:
    """What a mirrored test does at given true rates; arrays of one shape, one entry a pair."""

    arm1_better: np.ndarray
    """Probability of the verdict +1."""
    arm0_better: np.ndarray
    """Probability of the verdict -1."""
    undecided_after: np.ndarray
    """Probability of no verdict by each time t = 0..n_max, shape (n_max + 1, ...)."""

    @property
    def expected_time(self) -> np.ndarray:
        """Expected number of episodes of each arm, up to n_max."""
        return self.undecided_after[:-1].sum(axis=0)

    def time_quantile(self, share: float) -> np.ndarray:
        """Episodes of each arm within which a share of the tests has ended, by verdict or budget.

        Raises:
            ValueError: a share outside (0, 1].
        """
        if not 0.0 < share <= 1.0:
            raise ValueError(f"a share must lie within (0, 1], got {share}")
        still_going = self.undecided_after.copy()
        still_going[-1] = 0.0
        return (still_going <= 1.0 - share).argmax(axis=0)


def operating_characteristics(
    boundary: Boundary, p0: np.ndarray | float, p1: np.ndarray | float
) -> OperatingCharacteristics:
    """Follow the boundary forward in time for each pair of true rates.

    Args:
        p0, p1: rates of both arms, broadcast against each other.

    Time grows with n_max^2.5, and with n_max^2 a pair of rates; memory with n_max a pair.

    Raises:
        ValueError: a rate outside [0, 1], NaN among them.
    """
    rates0, rates1 = np.broadcast_arrays(np.asarray(p0, float), np.asarray(p1, float))
    for name, rates in (("p0", rates0), ("p1", rates1)):
        outside = rates[~((rates >= 0.0) & (rates <= 1.0))]
        if outside.size:
            raise ValueError(f"{name} must lie within [0, 1], got {outside[0]}")
    shape, n_max = rates0.shape, boundary.n_max
    equal = rates0.ravel() == rates1.ravel()
    at_equal = _AtEqualRates(rates0.ravel()[equal], n_max)
    apart = _ApartRates(rates0.ravel()[~equal], rates1.ravel()[~equal], n_max)
    up, down = np.zeros(rates0.size), np.zeros(rates0.size)
    undecided = np.ones((n_max + 1, rates0.size))
    alive = start()
    for t in range(1, n_max + 1):
        alive = advance(alive, t)
        weights = boundary.stop_weights(t, alive.shape[1])
        x, d = np.nonzero((weights > 0.0) & (alive > 0.0))
        if len(x):
            stopped = alive[x, d] * weights[x, d]
            either = at_equal.chance(t, x, x + d, stopped)
            up[equal] += either
            down[equal] += either
            up[~equal] += apart.chance(t, x, x + d, stopped)
            down[~equal] += apart.chance(t, x + d, x, stopped)
            alive[x, d] -= stopped
            alive = alive[:, : int(np.flatnonzero(alive.any(axis=0))[-1]) + 1]
        undecided[t] = 1.0 - up - down
    np.clip(undecided, 0.0, 1.0, out=undecided)
    return OperatingCharacteristics(
        arm1_better=up.reshape(shape),
        arm0_better=down.reshape(shape),
        undecided_after=undecided.reshape(n_max + 1, *shape),
    )


class _AtEqualRates:
    """Pairs of one rate, where either verdict has the same chance and only x + y matters."""

    def __init__(self, rates: np.ndarray, n_max: int) -> None:
        self._laws = BinomialLaws(rates, 2 * n_max)

    def chance(self, t: int, x: np.ndarray, y: np.ndarray, stopped: np.ndarray) -> np.ndarray:
        """Chance of the states (x, y), each weighted by `stopped`, for each rate."""
        by_sum = np.bincount(x + y, weights=stopped * self._laws.split(t, x, y))
        (sums,) = np.nonzero(by_sum)
        return by_sum[sums] @ self._laws.at(2 * t, sums)


class _ApartRates:
    """Pairs of two rates."""

    def __init__(self, rates0: np.ndarray, rates1: np.ndarray, n_max: int) -> None:
        distinct, place = np.unique([rates0, rates1], return_inverse=True)
        self._place0, self._place1 = place.reshape(2, -1)
        self._laws = BinomialLaws(distinct, n_max)

    def chance(self, t: int, x: np.ndarray, y: np.ndarray, stopped: np.ndarray) -> np.ndarray:
        """Chance of the states (x, y), each weighted by `stopped`, for each pair."""
        if len(self._place0) == 0:
            return np.zeros(0)
        chance = self._laws.at(t, x)[:, self._place0]
        chance *= self._laws.at(t, y)[:, self._place1]
        return stopped @ chance
