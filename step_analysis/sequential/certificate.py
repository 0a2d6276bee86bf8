"""The proof that comes with a boundary: its exact type-1 error where that is largest."""

from dataclasses import dataclass

import numpy as np

from step_analysis.sequential.operating_characteristics import operating_characteristics
from step_analysis.sequential.step_boundary import RandomisedBoundary, StepBoundary
from step_analysis.sequential.step_synthesis import between, control_points

_NUM_EXTREMES = 24
_EXTREME_REACH = 1e-3
"""The smallest rate looked at, as a share of the smallest control point."""
_OFF_DIAGONAL_STEPS = 15


@dataclass(frozen=True, kw_only=True)
class Certificate:
    """Exact suprema of the error over the rates at which a boundary was checked.

    With equal rates: at control points, halfway between them, and towards 0 and 1. With the rate
    of arm 0 above that of arm 1: on a grid.
    """

    type1_sup: float
    """Largest chance of a false verdict in one direction."""
    type1_sup_rate: float
    """The common rate, or that of arm 0, at which it is reached."""
    both_directions_sup: float
    """Largest chance of any verdict where both rates are equal."""
    off_diagonal_sup: float
    """Largest chance of "arm 1 is better" on the grid on which arm 0 is."""
    num_rates: int
    num_off_diagonal: int


def certify(boundary: StepBoundary | RandomisedBoundary) -> Certificate:
    """Follow the boundary at each of the rates; see `operating_characteristics`."""
    rates = checked_rates(boundary.n_max)
    if not (isinstance(boundary, StepBoundary) and boundary.treats_outcomes_alike):
        rates = np.unique(np.concatenate([rates, 1.0 - rates]))
    better, worse = _off_diagonal()
    exact = operating_characteristics(
        boundary, np.concatenate([rates, better]), np.concatenate([rates, worse])
    )
    equal, apart = exact.arm1_better[: len(rates)], exact.arm1_better[len(rates) :]
    either = equal + exact.arm0_better[: len(rates)]
    worst = int(exact.arm1_better.argmax())
    return Certificate(
        type1_sup=float(exact.arm1_better[worst]),
        type1_sup_rate=float(np.concatenate([rates, better])[worst]),
        both_directions_sup=float(either.max()),
        off_diagonal_sup=float(apart.max()),
        num_rates=len(rates),
        num_off_diagonal=len(better),
    )


def checked_rates(n_max: int) -> np.ndarray:
    """Rates up to 1/2: control points, the points halfway between them, and some near 0."""
    points = control_points(n_max)
    extremes = np.geomspace(_EXTREME_REACH * points[0], points[0], _NUM_EXTREMES + 1)[:-1]
    return np.sort(np.concatenate([points, between(points[:-1], points[1:]), extremes]))


def _off_diagonal() -> tuple[np.ndarray, np.ndarray]:
    """A triangle of rates, the better arm's first."""
    grid = (np.arange(_OFF_DIAGONAL_STEPS) + 0.5) / _OFF_DIAGONAL_STEPS
    above, below = np.triu_indices(_OFF_DIAGONAL_STEPS, k=1)
    return grid[below], grid[above]
