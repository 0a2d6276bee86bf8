"""A sequential test of two mean scores on shared seeds, by betting; it needs no budget.

Waudby-Smith and Ramdas, JRSS B 86 (2024): under "arm 1 is no better" the wealth of a bettor on
higher differences is a nonnegative supermartingale that starts at 1, so it ever reaches 1 / alpha
with probability at most alpha, whatever the law of the scores and the dependence within a pair.
It decides when `confidence_sequence.paired_score_difference_sequence` leaves 0 out.
"""

import math
from collections.abc import Sequence

import numpy as np

from step_analysis.sequential.confidence_sequence import LARGEST_BET, predictable_bets
from step_analysis.sequential.pairwise_test import Verdict, check_design

_EQUAL = 0.5
"""The mean of a halved and shifted difference where the arms are equally good."""


class BettingTest:
    """The mirrored test for scores in [0, 1], outcomes 0 and 1 among them.

    `n_max` bounds only how many episodes are looked at.
    """

    name = "Betting"
    least_lead = 0

    def __init__(self, n_max: int, alpha_per_side: float) -> None:
        check_design(n_max, alpha_per_side)
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side

    def run(
        self, arm0: Sequence[float] | np.ndarray, arm1: Sequence[float] | np.ndarray
    ) -> Verdict:
        """The verdict on two sequences of scores, of one length up to `n_max`.

        Raises:
            ValueError: unequal lengths, too many episodes, or a score outside [0, 1].
        """
        first, second = np.asarray(arm0, dtype=float), np.asarray(arm1, dtype=float)
        if first.shape != second.shape or first.ndim != 1 or len(first) > self.n_max:
            raise ValueError(
                f"two sequences of one length up to {self.n_max} expected, got shapes "
                f"{first.shape} and {second.shape}"
            )
        for scores in (first, second):
            if not ((scores >= 0.0) & (scores <= 1.0)).all():
                raise ValueError("scores must be numbers within [0, 1]")
        if not len(first):
            return Verdict(0, 0)
        halved = (second - first + 1.0) / 2.0
        bets = predictable_bets(halved, 2.0 * self.alpha_per_side)
        bets = np.minimum(bets, LARGEST_BET / _EQUAL)
        gain = bets * (halved - _EQUAL)
        to_stop = -math.log(self.alpha_per_side)
        for_arm1 = np.cumsum(np.log1p(gain)) >= to_stop
        for_arm0 = np.cumsum(np.log1p(-gain)) >= to_stop
        stops = for_arm1 | for_arm0
        if not stops.any():
            return Verdict(0, len(halved))
        time = int(stops.argmax())
        return Verdict(1 if for_arm1[time] else -1, time + 1)

    def leads_to_stop(
        self, arm0: Sequence[float] | np.ndarray, arm1: Sequence[float] | np.ndarray
    ) -> None:
        """None: the wealth depends on the order of the scores, not on the lead alone."""
