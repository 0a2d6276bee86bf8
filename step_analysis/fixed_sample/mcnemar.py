"""McNemar's exact test on shared seeds: given the discordant pairs, a test of a fair coin.

McNemar, Psychometrika 12 (1947), with the binomial law instead of its approximation. Pairs in
which both policies succeed or both fail say nothing; of the m others, how many favour arm 1 is
Binomial(m, 1/2) if the policies are equally good.
"""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binom

from step_analysis.sequential.pairwise_test import Verdict, check_design, outcome_arrays


class McNemarTest:
    """The mirrored test that decides when all `n_max` pairs are there."""

    name = "McNemar"
    least_lead = 0

    def __init__(self, n_max: int, alpha_per_side: float) -> None:
        check_design(n_max, alpha_per_side)
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side
        self.majority = majorities(n_max, alpha_per_side)

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        x, y = outcome_arrays(arm0, arm1, self.n_max)
        if len(x) < self.n_max:
            return Verdict(0, len(x))
        only0, only1 = int((x > y).sum()), int((y > x).sum())
        majority = self.majority[only0 + only1]
        if max(only0, only1) < majority:
            return Verdict(0, self.n_max)
        return Verdict(1 if only1 > only0 else -1, self.n_max)

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> None:
        """None: it does not look before the end."""


def mcnemar_p_values(only0: np.ndarray | int, only1: np.ndarray | int) -> np.ndarray:
    """One-sided p-values of "arm 1 is better" from the discordant pairs of each kind."""
    b, c = np.broadcast_arrays(only1, only0)
    return np.asarray(binom.sf(b - 1, b + c, 0.5))


def majorities(num_pairs: int, alpha: float) -> np.ndarray:
    """For m = 0..num_pairs discordant pairs the fewest for one arm that decide; m + 1 if none do"""
    m = np.arange(num_pairs + 1)
    # The quantile of a discrete law, then one step to the first count whose tail is small enough.
    majority = binom.isf(alpha, m, 0.5).astype(int) + 1
    majority += binom.sf(majority - 1, m, 0.5) > alpha
    return np.minimum(majority, m + 1)
