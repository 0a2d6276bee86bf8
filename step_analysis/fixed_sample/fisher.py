"""Fisher's exact test of two proportions, fast in batch.

Conditional on the total of successes the counts are hypergeometric if the rates are equal, so no
unknown rate is left; the price is that the test is more reluctant than Barnard's.
"""

from functools import lru_cache

import numpy as np
from scipy.stats import hypergeom

from step_analysis.fixed_sample.unpaired_test import Staircase, UnpairedTest, check_size


def fisher_test(n_max: int, alpha_per_side: float) -> UnpairedTest:
    """The mirrored test for exactly `n_max` episodes of each arm."""
    return UnpairedTest("Fisher", alpha_per_side, fisher_region(n_max, alpha_per_side))


@lru_cache(maxsize=256)
def fisher_region(num_episodes: int, alpha: float) -> Staircase:
    """All counts whose one-sided p-value is at most alpha.

    Raises:
        ValueError: no episode or more than 5,000, or an alpha outside (0, 1/2).
    """
    check_size(num_episodes, alpha)
    x = np.arange(num_episodes + 1)
    # The p-value falls with y for each x: bisect all x at once.
    below, reaching = x, np.full(num_episodes + 1, num_episodes + 1)
    while (reaching - below > 1).any():
        middle = (below + reaching) // 2
        reaches = (middle > below) & (fisher_p_values(x, middle, num_episodes) <= alpha)
        below, reaching = np.where(reaches, below, middle), np.where(reaches, middle, reaching)
    return Staircase(num_episodes=num_episodes, first_y=reaching)


def fisher_p_values(
    successes0: np.ndarray | int, successes1: np.ndarray | int, num_episodes: int
) -> np.ndarray:
    """One-sided p-values of "arm 1 is better" for counts of `num_episodes` each, broadcast.

    Raises:
        ValueError: a count is out of range.
    """
    x, y = np.broadcast_arrays(successes0, successes1)
    if num_episodes < 1 or min(x.min(), y.min()) < 0 or max(x.max(), y.max()) > num_episodes:
        raise ValueError(f"counts must lie between 0 and {num_episodes} episodes")
    return np.asarray(hypergeom.sf(y - 1, 2 * num_episodes, x + y, num_episodes))
