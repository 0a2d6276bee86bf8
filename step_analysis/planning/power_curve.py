"""Power and expected episodes as a function of the budget, each by exact calculation."""

from collections.abc import Sequence
from dataclasses import dataclass

from step_analysis.methods import TestName
from step_analysis.planning.characteristics import LARGEST_BUDGET, TrueRates, characteristics
from step_analysis.planning.sample_size import Budget, right

_SHARES = (0.1, 0.2, 0.35, 0.5, 0.7, 0.85, 1.0, 1.25, 1.5)
"""Of the needed budget: where the curve is worked out."""


@dataclass(frozen=True, kw_only=True)
class PowerPoint:
    """What one budget buys."""

    n_max: int
    power: float
    expected_n: float


def power_curve(budget: Budget, rates: TrueRates, *, alpha_per_side: float) -> Sequence[PowerPoint]:
    """Points around the needed budget, which is one of them, by rising budget."""
    sizes = {min(max(round(share * budget.n_max), 1), LARGEST_BUDGET) for share in _SHARES}
    return [_point(budget.method, n_max, rates, alpha_per_side) for n_max in sorted(sizes)]


def _point(method: TestName, n_max: int, rates: TrueRates, alpha_per_side: float) -> PowerPoint:
    found = characteristics(method, n_max, alpha_per_side, rates)
    return PowerPoint(n_max=n_max, power=right(found, rates), expected_n=found.expected_n)
