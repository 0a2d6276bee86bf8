"""Barnard's exact test of two proportions with the pooled Wald statistic, fast in batch.

Barnard, Biometrika 34 (1947). Tables are ordered by Wald's statistic with the pooled variance, and
the p-value is the largest chance, over the common success rate, of a table at least as extreme.

With n episodes of each arm the statistic squared is, up to a constant,
    (y - x)^2 / ((x + y) (2n - x - y)),
which rises with y and falls with x as long as y > x. So each "at least as extreme" is a staircase,
its size at a rate is one dot product, and a whole rejection region costs about log2(n^2) of them.
"""

from functools import lru_cache

import numpy as np

from step_analysis.fixed_sample.region_size import RegionSizes
from step_analysis.fixed_sample.unpaired_test import Staircase, UnpairedTest, check_size


def barnard_test(n_max: int, alpha_per_side: float) -> UnpairedTest:
    """The mirrored test for exactly `n_max` episodes of each arm."""
    return UnpairedTest("Barnard", alpha_per_side, barnard_region(n_max, alpha_per_side))


@lru_cache(maxsize=256)
def barnard_region(num_episodes: int, alpha: float) -> Staircase:
    """All counts whose one-sided p-value is at most alpha.

    Raises:
        ValueError: no episode or more than 5,000, or an alpha outside (0, 1/2).
    """
    check_size(num_episodes, alpha)
    sizes = RegionSizes(num_episodes)
    y, x = np.tril_indices(num_episodes + 1, -1)
    levels = np.unique(_statistic(x, y, num_episodes))
    # Past the last index that fails lies the smallest statistic whose region is small enough.
    fails, fits = -1, len(levels)
    while fits - fails > 1:
        middle = (fails + fits) // 2
        if sizes.largest(_first_y(num_episodes, levels[middle])) <= alpha:
            fits = middle
        else:
            fails = middle
    if fits == len(levels):
        first_y = np.full(num_episodes + 1, num_episodes + 1)
    else:
        first_y = _first_y(num_episodes, levels[fits])
    return Staircase(num_episodes=num_episodes, first_y=first_y)


def barnard_p_values(
    successes0: np.ndarray | int, successes1: np.ndarray | int, num_episodes: int
) -> np.ndarray:
    """One-sided p-values of "arm 1 is better" for counts of `num_episodes` each, broadcast.

    Raises:
        ValueError: a count is out of range.
    """
    x, y = np.broadcast_arrays(successes0, successes1)
    if num_episodes < 1 or min(x.min(), y.min()) < 0 or max(x.max(), y.max()) > num_episodes:
        raise ValueError(f"counts must lie between 0 and {num_episodes} episodes")
    sizes = RegionSizes(num_episodes)
    # Behind or level, the p-value is 1: a common rate near 0 makes "no success at all" certain.
    p_values = np.ones(x.shape)
    ahead = y > x
    levels, number = np.unique(_statistic(x[ahead], y[ahead], num_episodes), return_inverse=True)
    largest = np.array([sizes.largest(_first_y(num_episodes, level)) for level in levels])
    p_values[ahead] = largest[number]
    return p_values


def _statistic(x: np.ndarray, y: np.ndarray, num_episodes: int) -> np.ndarray:
    """Wald's statistic squared over 2n, for y >= x; 0 at its ends.

    A quotient of whole numbers that doubles hold, so equal statistics are equal as doubles too.
    """
    together = x + y
    spread = together * (2 * num_episodes - together)
    return (y - x) ** 2 / np.maximum(spread, 1)


def _first_y(num_episodes: int, level: float) -> np.ndarray:
    """For each x the smallest y > x whose statistic is at least `level`; n + 1 if there is none."""
    x = np.arange(num_episodes + 1)
    below, reaching = x, np.full(num_episodes + 1, num_episodes + 1)
    while (reaching - below > 1).any():
        middle = (below + reaching) // 2
        reaches = (middle > below) & (_statistic(x, middle, num_episodes) >= level)
        below, reaching = np.where(reaches, below, middle), np.where(reaches, middle, reaching)
    return reaching
