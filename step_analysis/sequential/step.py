"""The STEP test."""

from collections.abc import Sequence

import numpy as np

from step_analysis.sequential.pairwise_test import Verdict, outcome_arrays
from step_analysis.sequential.risk_budget import LinearBudget, RiskBudget
from step_analysis.sequential.step_boundary import RandomisedBoundary, StepBoundary
from step_analysis.sequential.step_design import StepDesign, StepForm
from step_analysis.sequential.step_tables import find_table


class StepTest:
    """STEP for at most `n_max` episodes of each arm; see `step_synthesis` for the source.

    The first use of a design that is not shipped makes its boundary: 0.2 s for 200 episodes, 2 s
    for 500, minutes for thousands; later ones read it from the cache.
    """

    name = "STEP"

    def __init__(
        self,
        n_max: int,
        alpha_per_side: float,
        *,
        budget: RiskBudget | None = None,
        form: StepForm = "deterministic",
        seed: int | None = None,
    ) -> None:
        """`budget` is linear unless given; `seed` is for the randomised form, which requires it.

        Each run of the randomised form draws from the seed anew.
        """
        design = StepDesign(
            n_max=n_max,
            alpha_per_side=alpha_per_side,
            budget=budget or LinearBudget(),
            form=form,
        )
        if (seed is None) == (form == "randomised"):
            raise ValueError(
                "the randomised form of STEP needs a seed"
                if seed is None
                else "a seed is for the randomised form of STEP: the other one draws nothing"
            )
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side
        self.table = find_table(design)
        self._seed = seed
        self.least_lead = 0 if form == "randomised" else _least_lead(self.boundary.stop_at)

    @property
    def boundary(self) -> StepBoundary | RandomisedBoundary:
        return self.table.boundary

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        x, y = np.add.accumulate(outcomes0), np.add.accumulate(outcomes1)
        trailing, leading = np.minimum(x, y), np.maximum(x, y)
        boundary = self.table.boundary
        stops = leading >= boundary.stop_at[np.arange(1, len(x) + 1), trailing]
        if isinstance(boundary, RandomisedBoundary):
            self._draw(boundary, trailing, leading, stops)
        first = int(stops.argmax()) if len(stops) else 0
        if not len(stops) or not stops[first]:
            return Verdict(0, len(x))
        return Verdict(1 if y[first] > x[first] else -1, first + 1)

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray] | None:
        """See `PairwiseTest`; None in the randomised form, where no lead is sure to be enough."""
        if self._seed is not None:
            return None
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        return self._lead(np.cumsum(outcomes0)), self._lead(np.cumsum(outcomes1))

    def _lead(self, trailing: np.ndarray) -> np.ndarray:
        t = np.arange(1, len(trailing) + 1)
        stop_at = self.boundary.stop_at[t, trailing].astype(float)
        return np.where(stop_at <= t, stop_at - trailing, np.nan)

    def _draw(
        self,
        boundary: RandomisedBoundary,
        trailing: np.ndarray,
        leading: np.ndarray,
        stops: np.ndarray,
    ) -> None:
        """Add to `stops` the first chance stop; every state with a weight takes one draw."""
        generator = np.random.default_rng(self._seed)
        t = np.arange(1, len(stops) + 1)
        first, end = boundary.listed_from[t, trailing], boundary.stop_at[t, trailing]
        (listed,) = np.nonzero((leading >= first) & (leading < end))
        for i in listed.tolist():
            if stops[:i].any():
                return
            if generator.random() <= boundary.weight(i + 1, int(trailing[i]), int(leading[i])):
                stops[i] = True
                return


def _least_lead(stop_at: np.ndarray) -> int:
    counts = np.arange(len(stop_at))
    can = stop_at <= counts[:, None]
    return int((stop_at - counts).min(where=can, initial=len(stop_at)))
