"""A sequential test of two policies on shared seeds, with its error bounded exactly.

Each pair of episodes favours arm 1 (only it succeeds), arm 0, or neither. A state is (t, m, u):
pairs seen, discordant ones among them, and the lead, those for arm 1 less those for arm 0. If the
policies are equally good a discordant pair is a fair coin. How often pairs are discordant, d, is
unknown; with independent arms d is at most 1/2 where they are equal, with shared seeds it can be
anything, so a boundary that is calibrated for independent arms does not hold here.

The boundary: given m_t = m all orders of discordant and concordant pairs are equally likely,
whatever d. So the chance of being alive, and the chance of having stopped, given (t, m) and a fair
coin, are free of d and follow one recursion. At each (t, m) the largest leads stop, as many as
keep the chance S(t, m) of having stopped for arm 1 so far at most alpha (t / n_max). At the end
the type-1 error is the mean of S(n_max, m) over m ~ Binomial(n_max, d): at most alpha for every d,
without control points and without slack between them. `docs/statistics.md` has the argument why a
coin that favours arm 0 only lowers it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

import numpy as np

from step_analysis import special
from step_analysis.sequential.pairwise_test import Verdict, check_design, outcome_arrays

PAIRED_SIZE_LIMIT = 10_000
"""Pairs: a boundary then takes 200 MB and minutes."""

_ROUNDING = 1e-10
"""Share of alpha that is left for rounding in the sums."""
_NUM_SIZE_POINTS = 401


@dataclass(frozen=True, kw_only=True)
class PairedBoundary:
    """When to stop, mirrored.

    `stop_lead[t, m]` is the smallest lead, in discordant pairs, that decides; more than m where
    none can. int16, shape (n_max + 1, n_max + 1). `spent[m]` is the chance of a verdict for arm 1
    given m discordant pairs of n_max and a fair coin.
    """

    n_max: int
    alpha_per_side: float
    stop_lead: np.ndarray
    spent: np.ndarray

    def size(self, discordance: float) -> float:
        """The exact chance of a verdict for arm 1 where the policies are equally good."""
        return float(_num_discordant_law(self.n_max, np.array(discordance)) @ self.spent)

    def largest_size(self) -> float:
        """The largest over discordances from 0 to 1, on a grid; never above `spent.max()`."""
        grid = np.sin(np.linspace(0.0, np.pi / 2.0, _NUM_SIZE_POINTS)) ** 2
        return float((_num_discordant_law(self.n_max, grid) @ self.spent).max())


def _num_discordant_law(n_max: int, discordance: np.ndarray) -> np.ndarray:
    """Binomial probabilities of m = 0..n_max, along a new last axis."""
    m = np.arange(n_max + 1)
    log_choose = (
        special.gammaln(n_max + 1) - special.gammaln(m + 1) - special.gammaln(n_max - m + 1)
    )
    d = discordance[..., None]
    return np.exp(log_choose + special.xlogy(m, d) + special.xlog1py(n_max - m, -d))


class SequentialMcNemarTest:
    """The mirrored test for at most `n_max` pairs.

    Making its boundary takes 20 ms for 200 pairs and seconds for 4,000; it is kept in memory.
    """

    name = "Sequential McNemar"

    def __init__(self, n_max: int, alpha_per_side: float) -> None:
        check_design(n_max, alpha_per_side)
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side
        self.boundary = paired_boundary(n_max, alpha_per_side)
        stop_lead = self.boundary.stop_lead
        can = stop_lead <= np.arange(n_max + 1)
        self.least_lead = int(stop_lead.min(where=can, initial=n_max + 1))

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        lead = np.add.accumulate(outcomes1 - outcomes0)
        stops = np.abs(lead) >= self._stop_lead(outcomes0, outcomes1)
        first = int(stops.argmax()) if len(stops) else 0
        if not len(stops) or not stops[first]:
            return Verdict(0, len(lead))
        return Verdict(1 if lead[first] > 0 else -1, first + 1)

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """See `PairwiseTest`; where the discordant pairs are fewer than the lead that they need,
        the one that decides if all are for one arm, as many as it takes."""
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        needed = self._stop_lead(outcomes0, outcomes1)
        t, m = np.arange(1, len(needed) + 1), np.cumsum(outcomes0 != outcomes1)
        alone = self._stop_alone[t]
        lead = np.where((alone > m) & (alone <= t), alone.astype(float), np.nan)
        lead = np.where(needed <= m, needed, lead)
        return lead, lead

    @cached_property
    def _stop_alone(self) -> np.ndarray:
        """For each t the fewest discordant pairs that decide where all are for one arm."""
        pairs = np.arange(self.n_max + 1)
        stops = self.boundary.stop_lead <= pairs
        return np.where(stops.any(axis=1), stops.argmax(axis=1), self.n_max + 1)

    def _stop_lead(self, outcomes0: np.ndarray, outcomes1: np.ndarray) -> np.ndarray:
        m = np.add.accumulate(outcomes0 ^ outcomes1)
        return self.boundary.stop_lead[np.arange(1, len(m) + 1), m]


@lru_cache(maxsize=16)
def paired_boundary(n_max: int, alpha_per_side: float) -> PairedBoundary:
    """Make the boundary; time grows about with n_max^2.5, memory with n_max^2.

    Raises:
        ValueError: n_max below 1 or above 10,000, or an alpha a side outside (0, 1/2).
    """
    check_design(n_max, alpha_per_side)
    if n_max > PAIRED_SIZE_LIMIT:
        raise ValueError(
            f"the sequential paired test takes at most {PAIRED_SIZE_LIMIT} pairs, got {n_max}"
        )
    stop_lead = np.full((n_max + 1, n_max + 1), n_max + 1, dtype=np.int16)
    spent = np.zeros(n_max + 1)
    # alive[m, u]: chance of (no verdict yet, lead u) given m, for u >= 0; symmetric in u.
    alive = np.zeros((n_max + 1, 2))
    alive[0, 0] = 1.0
    for t in range(1, n_max + 1):
        width = _width(alive[:t])
        if width > alive.shape[1]:
            alive = np.pad(alive, ((0, 0), (0, width)))
        m = np.arange(t + 1)
        was_discordant = (m / t)[:, None]
        now = (1.0 - was_discordant) * alive[: t + 1, :width]
        was_discordant = 0.5 * was_discordant[1:]
        now[1:, 1:] += was_discordant * alive[:t, : width - 1]
        now[1:, :-1] += was_discordant * alive[:t, 1:width]
        now[1:, 0] += was_discordant[:, 0] * alive[:t, 1]  # from lead -1, which mirrors +1
        spent[1 : t + 1] = (1.0 - m[1:] / t) * spent[1 : t + 1] + m[1:] / t * spent[:t]
        room = alpha_per_side * (t / n_max) * (1.0 - _ROUNDING) - spent[: t + 1]
        # beyond[m, -u]: chance of a lead of u or more. It falls with u, so the leads that stop
        # are the last ones of each row.
        beyond = np.cumsum(now[:, :0:-1], axis=1)
        num_stopping = (beyond <= room[:, None]).sum(axis=1)
        first = width - num_stopping
        first += (m - first) % 2  # a lead is odd or even as m is
        stop_lead[t, : t + 1] = first
        stopped = np.take_along_axis(beyond, np.maximum(num_stopping - 1, 0)[:, None], axis=1)
        spent[: t + 1] += np.where(num_stopping > 0, stopped[:, 0], 0.0)
        now[np.arange(width) >= first[:, None]] = 0.0
        alive[: t + 1, :width] = now
    return PairedBoundary(
        n_max=n_max, alpha_per_side=alpha_per_side, stop_lead=stop_lead, spent=spent
    )


def _width(alive: np.ndarray) -> int:
    """Leads that may be reached next, 0 among them, and one more that may not."""
    return int(np.flatnonzero(alive.any(axis=0))[-1]) + 3


@dataclass(frozen=True, kw_only=True)
class PairedCharacteristics:
    """Exact behaviour of the test at given true probabilities."""

    arm1_better: float
    arm0_better: float
    expected_time: float


def paired_characteristics(
    boundary: PairedBoundary, only0: float, only1: float
) -> PairedCharacteristics:
    """Follow the law of (m, u) forward in time, sharing no code with the boundary's making.

    Args:
        only0, only1: probability that only arm 0, only arm 1 succeeds in a pair.

    Raises:
        ValueError: probabilities below 0 or together above 1.
    """
    if not (only0 >= 0.0 and only1 >= 0.0 and only0 + only1 <= 1.0 + 1e-12):
        raise ValueError(
            f"two probabilities that add up to at most 1 expected, got {only0} and {only1}"
        )
    n_max = boundary.n_max
    # A lead that goes on is below the one that stops and at most m; the next is one more.
    width = int(np.tril(np.minimum(boundary.stop_lead, np.arange(1, n_max + 2))).max())
    lead = np.arange(-width, width + 1)
    law = np.zeros((n_max + 1, 2 * width + 1))
    law[0, width] = 1.0
    up = down = time = 0.0
    for t in range(1, n_max + 1):
        before = law[:t]
        time += float(before.sum())
        after = np.zeros((t + 1, 2 * width + 1))
        after[:t] = (1.0 - only0 - only1) * before
        after[1:, 1:] += only1 * before[:, :-1]
        after[1:, :-1] += only0 * before[:, 1:]
        needed = boundary.stop_lead[t, : t + 1, None]
        for_arm1, for_arm0 = lead >= needed, -lead >= needed
        up += float(after[for_arm1].sum())
        down += float(after[for_arm0].sum())
        law[: t + 1] = np.where(for_arm1 | for_arm0, 0.0, after)
    return PairedCharacteristics(arm1_better=up, arm0_better=down, expected_time=time)
