"""The law of a sum of scores when arms are exchanged at random, exact where that is feasible.

Scores that are multiples of a common fraction make sums of whole numbers, whose law follows by
adding one score after another. Otherwise a few arrangements are counted one by one.
"""

import math
from itertools import combinations, product
from typing import NamedTuple, Protocol

import numpy as np

_LARGEST_DENOMINATOR = 1000
_MOST_ADDITIONS = 100_000_000
"""About a second of adding."""
_MOST_ARRANGEMENTS = 50_000
_MOST_SPLIT_SCORES = 1000
"""The number of ways to split more scores in two is beyond a double."""
_RELATIVE_TOLERANCE = 1e-9


class Tails(NamedTuple):
    """The chance of a statistic at least, and at most, the observed one."""

    at_least: float
    at_most: float


class PermutationLaw(Protocol):
    """A statistic, rising with arm 1's scores, over all arrangements."""

    observed: float
    num_scores: int
    tolerance: float
    """Statistics that differ by less are equal but for rounding."""

    def exact_tails(self) -> Tails | None:
        """None where it would take too long."""
        ...

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        """The statistic of `num` random arrangements."""
        ...


class FlipLaw:
    """Pairs: each difference keeps or changes its sign. The statistic is their sum."""

    def __init__(self, differences: np.ndarray) -> None:
        # A pair without a difference counts in every arrangement alike.
        self._differences = differences[differences != 0.0]
        self.observed = float(self._differences.sum())
        self.num_scores = max(len(self._differences), 1)
        self.tolerance = _RELATIVE_TOLERANCE * self.num_scores

    def exact_tails(self) -> Tails | None:
        whole = _whole_numbers(self._differences)
        if whole is not None and np.abs(whole).sum() * len(whole) <= _MOST_ADDITIONS:
            reach = int(np.abs(whole).sum())
            law = np.zeros(2 * reach + 1)
            law[reach] = 1.0
            for size in np.abs(whole):
                law = 0.5 * (_moved(law, size) + _moved(law, -size))
            at = reach + int(whole.sum())
            return Tails(_sum(law[at:]), _sum(law[: at + 1]))
        if 2 ** len(self._differences) <= _MOST_ARRANGEMENTS:
            signs = np.array(list(product((-1.0, 1.0), repeat=len(self._differences))))
            return _counted(signs @ self._differences, self)
        return None

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        signs = rng.integers(2, size=(num, len(self._differences))) * 2.0 - 1.0
        return signs @ self._differences


class SplitLaw:
    """Independent arms: all scores are dealt anew. The statistic is the sum of arm 1's."""

    def __init__(self, first: np.ndarray, second: np.ndarray) -> None:
        self._pooled = np.concatenate([second, first])
        self._num_second = len(second)
        self.observed = float(second.sum())
        self.num_scores = len(self._pooled)
        self.tolerance = _RELATIVE_TOLERANCE * self.num_scores

    def exact_tails(self) -> Tails | None:
        whole = _whole_numbers(self._pooled)
        num, chosen = self.num_scores, self._num_second
        if whole is not None and num <= _MOST_SPLIT_SCORES:
            reach = int(whole.sum())
            if num * chosen * (reach + 1) <= _MOST_ADDITIONS:
                # ways[j, s]: how many choices of j scores add up to s.
                ways = np.zeros((chosen + 1, reach + 1))
                ways[0, 0] = 1.0
                for score in whole:
                    ways[1:, score:] += ways[:-1, : reach + 1 - score].copy()
                law = ways[chosen] / float(math.comb(num, chosen))
                at = int(whole[:chosen].sum())
                return Tails(_sum(law[at:]), _sum(law[: at + 1]))
        if math.comb(num, chosen) <= _MOST_ARRANGEMENTS:
            sums = [self._pooled[list(c)].sum() for c in combinations(range(num), chosen)]
            return _counted(np.array(sums), self)
        return None

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        dealt = rng.permuted(np.broadcast_to(self._pooled, (num, self.num_scores)), axis=1)
        return dealt[:, : self._num_second].sum(axis=1)


def _whole_numbers(scores: np.ndarray) -> np.ndarray | None:
    """Scores as multiples of the coarsest 1 / k, k up to 1000; None if they are of none."""
    distinct = np.unique(scores)
    for denominator in range(1, _LARGEST_DENOMINATOR + 1):
        scaled = distinct * denominator
        if np.abs(scaled - np.rint(scaled)).max(initial=0.0) < _RELATIVE_TOLERANCE:
            return np.rint(scores * denominator).astype(int)
    return None


def _moved(law: np.ndarray, by: int) -> np.ndarray:
    """The law of a sum after adding `by`; what is moved over the end has no chance there."""
    moved = np.zeros_like(law)
    if by >= 0:
        moved[by:] = law[: len(law) - by]
    else:
        moved[:by] = law[-by:]
    return moved


def _counted(statistics: np.ndarray, law: FlipLaw | SplitLaw) -> Tails:
    return Tails(
        float((statistics >= law.observed - law.tolerance).mean()),
        float((statistics <= law.observed + law.tolerance).mean()),
    )


def _sum(chances: np.ndarray) -> float:
    return min(math.fsum(chances), 1.0)
