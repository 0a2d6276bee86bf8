"""SAVI: a safe, anytime-valid test of two proportions; it needs no budget.

The e-process of Turner and Grünwald bets, before each pair, on the rates that the pairs so far
suggest: Beta(1, 2) for the arm thought worse and Beta(2, 1) for the other. Its wealth exceeds
1/alpha with probability at most alpha under the null, whenever one stops. It pays for that freedom
with power.
"""

import math
from collections.abc import Sequence

import numpy as np

from step_analysis.sequential.pairwise_test import Verdict, check_design, outcome_arrays


class SaviTest:
    """The mirrored SAVI test; `n_max` bounds only how many episodes are looked at."""

    name = "SAVI"
    least_lead = 0

    def __init__(self, n_max: int, alpha_per_side: float) -> None:
        check_design(n_max, alpha_per_side)
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        x, y = (a.tolist() for a in outcome_arrays(arm0, arm1, self.n_max))
        wealth_to_stop = -math.log(self.alpha_per_side)
        log_wealth = {1: 0.0, -1: 0.0}
        successes0 = successes1 = 0
        for seen, (outcome0, outcome1) in enumerate(zip(x, y, strict=True)):
            log_wealth[1] += _log_bet(seen, successes0, successes1, outcome0, outcome1)
            log_wealth[-1] += _log_bet(seen, successes1, successes0, outcome1, outcome0)
            successes0 += outcome0
            successes1 += outcome1
            if log_wealth[1] >= wealth_to_stop:
                return Verdict(1, seen + 1)
            if log_wealth[-1] >= wealth_to_stop:
                return Verdict(-1, seen + 1)
        return Verdict(0, len(x))

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> None:
        """None: the wealth depends on the order of the outcomes, not on the lead alone."""


def _log_bet(seen: int, s_worse: int, s_better: int, x_worse: int, x_better: int) -> float:
    """Log of the wealth's factor from one pair, for the bet that `better` succeeds more often."""
    q_worse = (1 + s_worse) / (seen + 3)
    q_better = (2 + s_better) / (seen + 3)
    if q_worse >= q_better:
        return 0.0
    q_null = (q_worse + q_better) / 2.0
    return (
        _log_bernoulli(x_worse, q_worse)
        + _log_bernoulli(x_better, q_better)
        - _log_bernoulli(x_worse, q_null)
        - _log_bernoulli(x_better, q_null)
    )


def _log_bernoulli(outcome: int, rate: float) -> float:
    return math.log(rate if outcome else 1.0 - rate)
