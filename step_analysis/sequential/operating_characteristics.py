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
    distinct, place = np.unique([rates0.ravel(), rates1.ravel()], return_inverse=True)
    place0, place1 = place.reshape(2, -1)
    laws = BinomialLaws(distinct, n_max)
    # Where both rates are equal, so are both verdicts' chances: one of them is enough.
    (apart,) = np.nonzero(place0 != place1)
    up, down = np.zeros(rates0.size), np.zeros(rates0.size)
    undecided = np.ones((n_max + 1, rates0.size))
    alive = start()
    for t in range(1, n_max + 1):
        alive = advance(alive, t)
        weights = boundary.stop_weights(t, alive.shape[1])
        x, d = np.nonzero((weights > 0.0) & (alive > 0.0))
        if len(x):
            law = laws.at(t)
            stopped = alive[x, d] * weights[x, d]
            law_x, law_y = law[:, x], law[:, x + d]
            for_arm1 = (law_x[place0] * law_y[place1]) @ stopped
            for_arm0 = for_arm1.copy()
            for_arm0[apart] = (law_x[place1[apart]] * law_y[place0[apart]]) @ stopped
            up += for_arm1
            down += for_arm0
            alive[x, d] -= stopped
            alive = alive[:, : int(np.flatnonzero(alive.any(axis=0))[-1]) + 1]
        undecided[t] = 1.0 - up - down
    np.clip(undecided, 0.0, 1.0, out=undecided)
    return OperatingCharacteristics(
        arm1_better=up.reshape(shape),
        arm0_better=down.reshape(shape),
        undecided_after=undecided.reshape(n_max + 1, *shape),
    )
