"""What Barnard's and Fisher's tests have in common: independent arms, looked at once.

Both are decided by the success counts (x, y) of n episodes each, and both are monotone: one more
success of arm 1, or one fewer of arm 0, never turns a verdict for arm 1 away. The rejection
region is then a staircase, kept as one number for each x.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from step_analysis.sequential.pairwise_test import Decision, Verdict, check_design, outcome_arrays

UNPAIRED_SIZE_LIMIT = 5_000
"""Episodes of each arm: the statistics of all counts then take a few 100 MB."""


@dataclass(frozen=True, kw_only=True)
class Staircase:
    """When n episodes of each arm say that arm 1 is better; the other side is the mirror image.

    `first_y[x]`, for x = 0..n successes of arm 0, is the fewest successes of arm 1 that do;
    n + 1 where none does.
    """

    num_episodes: int
    first_y: np.ndarray

    def __post_init__(self) -> None:
        n = self.num_episodes
        if self.first_y.shape != (n + 1,) or (np.diff(self.first_y) < 0).any():
            raise ValueError(f"a rising staircase of {n + 1} entries expected")
        if not ((self.first_y > np.arange(n + 1)) & (self.first_y <= n + 1)).all():
            raise ValueError("a staircase must lie above the diagonal and within n + 1")

    def decisions(self, successes0: np.ndarray, successes1: np.ndarray) -> np.ndarray:
        """The verdicts +1, -1 and 0 on counts of n episodes each, of any one shape."""
        x, y = np.asarray(successes0), np.asarray(successes1)
        return (y >= self.first_y[x]).astype(np.int8) - (x >= self.first_y[y]).astype(np.int8)


class UnpairedTest:
    """A mirrored test that decides when all `n_max` episodes of each arm are there."""

    least_lead = 0

    def __init__(self, name: str, alpha_per_side: float, region: Staircase) -> None:
        self.name = name
        self.alpha_per_side = alpha_per_side
        self.region = region

    @property
    def n_max(self) -> int:
        return self.region.num_episodes

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        x, y = outcome_arrays(arm0, arm1, self.n_max)
        if len(x) < self.n_max:
            return Verdict(0, len(x))
        decision = int(self.region.decisions(x.sum(), y.sum()))
        return Verdict(_AS_DECISION[decision], self.n_max)

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> None:
        """None: it does not look before the end."""


def check_size(num_episodes: int, alpha: float) -> None:
    """Raises ValueError unless there are 1 to 5,000 episodes and alpha lies in (0, 1/2)."""
    check_design(num_episodes, alpha)
    if num_episodes > UNPAIRED_SIZE_LIMIT:
        raise ValueError(
            f"exact tests of two counts take at most {UNPAIRED_SIZE_LIMIT} episodes of each arm, "
            f"got {num_episodes}"
        )


_AS_DECISION: dict[int, Decision] = {-1: -1, 0: 0, 1: 1}
