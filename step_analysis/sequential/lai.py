"""Lai's nearly optimal sequential test, with its cost constant solved exactly.

Lai, Annals of Statistics 16 (1988). Only discordant pairs (one arm succeeds, the other fails)
count: after m of them, a of which favour arm 1, stop when KL(a/m || 1/2) >= g(c m) / m. The
constant c sets the size. Published use calibrates it by simulation and extrapolates, which leaves
most of alpha unspent at Bonferroni levels; here the exact size is bisected.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from step_analysis import special
from step_analysis.sequential.lai_cache import keep_log_c, kept_log_c
from step_analysis.sequential.pairwise_test import Verdict, check_design, outcome_arrays

_LOG_C_TOLERANCE = 1e-6
_KEPT_FROM = 1000
"""From this budget on the constant is kept in the user's cache folder: it takes long to find."""
_LOG_C_WIDENING = 0.25
_MAX_LOG_C_WIDTH = 500.0


class LaiTest:
    """Lai's test for at most `n_max` episodes of each arm."""

    name = "Lai"

    def __init__(self, n_max: int, alpha_per_side: float, *, c: float | None = None) -> None:
        """`c` overrides the solved constant; the size is then whatever it gives."""
        check_design(n_max, alpha_per_side)
        self.n_max = n_max
        self.alpha_per_side = alpha_per_side
        self.c = solve_c(n_max, alpha_per_side) if c is None else c
        self._stop_at = _stopping_counts(n_max, self.c)
        m = np.arange(n_max + 1)
        leads = 2 * self._stop_at - m
        self.least_lead = int(leads.min(where=self._stop_at <= m, initial=n_max + 1))

    def run(self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray) -> Verdict:
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        difference = outcomes1 - outcomes0
        (times,) = np.nonzero(difference)
        m = np.arange(1, len(times) + 1)
        for_arm1 = np.cumsum(difference[times] > 0)
        stops = np.maximum(for_arm1, m - for_arm1) >= self._stop_at[m]
        if not stops.any():
            return Verdict(0, len(difference))
        first = int(stops.argmax())
        return Verdict(1 if 2 * for_arm1[first] > m[first] else -1, int(times[first]) + 1)

    def leads_to_stop(
        self, arm0: Sequence[int] | np.ndarray, arm1: Sequence[int] | np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        outcomes0, outcomes1 = outcome_arrays(arm0, arm1, self.n_max)
        m = np.cumsum(outcomes0 != outcomes1)
        majority = self._stop_at[m].astype(float)
        lead = np.where(majority <= m, 2.0 * majority - m, np.nan)
        return lead, lead


@dataclass(frozen=True, kw_only=True)
class LaiCharacteristics:
    """Exact behaviour of the test at given true rates."""

    arm1_better: float
    arm0_better: float
    expected_time: float


def lai_characteristics(n_max: int, c: float, p0: float, p1: float) -> LaiCharacteristics:
    """Verdict probabilities and expected episodes of each arm, by a walk over discordant pairs."""
    discordant = p0 * (1.0 - p1) + p1 * (1.0 - p0)
    if discordant == 0.0:
        return LaiCharacteristics(arm1_better=0.0, arm0_better=0.0, expected_time=float(n_max))
    up, down = _crossings(_stopping_counts(n_max, c), p1 * (1.0 - p0) / discordant)
    m = np.arange(n_max + 1)
    reached = _at_least(m, n_max, discordant)
    # The m-th discordant pair comes at time T with E[(n - T)+] = n P(T <= n) - E[T; T <= n], and
    # the last term is m / d times the chance of m + 1 such pairs among n + 1.
    saved = n_max * reached - m / discordant * _at_least(m + 1, n_max + 1, discordant)
    return LaiCharacteristics(
        arm1_better=float(up @ reached),
        arm0_better=float(down @ reached),
        expected_time=float(n_max - (up + down) @ saved),
    )


@lru_cache(maxsize=256)
def solve_c(n_max: int, alpha_per_side: float) -> float:
    """The largest c whose exact size, at p0 = p1 = 1/2 where it is worst, is at most alpha."""
    check_design(n_max, alpha_per_side)
    reached = _at_least(np.arange(n_max + 1), n_max, 0.5)

    def excess(log_c: float) -> float:
        """Log of the size over alpha, not decreasing in c; -inf where nothing ever stops."""
        up, _ = _crossings(_stopping_counts(n_max, math.exp(log_c)), 0.5)
        size = float(up @ reached)
        return math.log(size / alpha_per_side) if size > 0.0 else -math.inf

    if n_max < _KEPT_FROM:
        return math.exp(_solved(excess, n_max, alpha_per_side))
    kept = kept_log_c(n_max, alpha_per_side)
    # Two sizes tell whether it is the answer, whoever wrote the file; finding it takes twenty.
    if kept is not None and excess(kept) <= 0.0 < excess(kept + _LOG_C_TOLERANCE):
        return math.exp(kept)
    log_c = _solved(excess, n_max, alpha_per_side)
    keep_log_c(n_max, alpha_per_side, log_c)
    return math.exp(log_c)


def _solved(excess: Callable[[float], float], n_max: int, alpha_per_side: float) -> float:
    # Near the answer for every budget and alpha: c is about proportional to alpha**0.8 / n_max.
    middle = 0.8 * math.log(alpha_per_side) - 1.1 - math.log(n_max)
    low, high = _bracket(excess, middle)
    return low if high is None else _largest_below_zero(excess, low, high)


def _bracket(excess: Callable[[float], float], guess: float) -> tuple[float, float | None]:
    """Neighbours (low, high) with excess(low) <= 0 < excess(high).

    `high` is None where even the boundary for c = 1 spends too little.
    """
    low = high = min(guess, 0.0)
    width = _LOG_C_WIDENING
    if excess(low) <= 0.0:
        while high < 0.0:
            low, high = high, min(high + width, 0.0)
            if excess(high) > 0.0:
                return low, high
            width *= 2.0
        return high, None
    while width < _MAX_LOG_C_WIDTH:
        low, high = low - width, low
        if excess(low) <= 0.0:
            return low, high
        width *= 2.0
    raise ArithmeticError("no constant of Lai's test keeps the size")


def _largest_below_zero(excess: Callable[[float], float], low: float, high: float) -> float:
    """Where a step function that does not decrease leaves 0, from below.

    False position with halving (Illinois), for which steps do no harm but to its speed; a plain
    bisection wherever it would not move.
    """
    at_low, at_high = excess(low), excess(high)
    while high - low > _LOG_C_TOLERANCE:
        middle = (low + high) / 2.0
        if math.isfinite(at_low) and at_low < 0.0 < at_high:
            guess = low - at_low * (high - low) / (at_high - at_low)
            if low + _LOG_C_TOLERANCE / 2.0 < guess < high - _LOG_C_TOLERANCE / 2.0:
                middle = guess
        at_middle = excess(middle)
        if at_middle <= 0.0:
            low, at_low, at_high = middle, at_middle, at_high / 2.0
        else:
            high, at_high, at_low = middle, at_middle, at_low / 2.0
    return low


def _at_least(m: np.ndarray, trials: int, probability: float) -> np.ndarray:
    """The chance of m or more successes in `trials`."""
    possible = (m > 0) & (m <= trials)
    chance = np.where(m <= 0, 1.0, 0.0)
    chance[possible] = special.betainc(m[possible], trials - m[possible] + 1, probability)
    return chance


def _stopping_counts(n_max: int, c: float) -> np.ndarray:
    """For m = 0..n_max discordant pairs the smallest majority that stops; m + 1 if none does."""
    m = np.arange(1, n_max + 1)
    threshold = _g(c * m) / m
    # KL(theta || 1/2) grows with theta from 0 at 1/2 to ln 2 at 1: bisect all m at once.
    low, high = m // 2, m + 1
    while (high - low > 1).any():
        middle = np.where(high - low > 1, (low + high) // 2, high)
        theta = np.minimum(middle / m, 1.0)
        stops = (_divergence_from_half(theta) >= threshold) | (middle > m)
        low, high = np.where(stops, low, middle), np.where(stops, middle, high)
        low = np.minimum(low, high - 1)
    return np.concatenate([[1], high])


def _divergence_from_half(theta: np.ndarray) -> np.ndarray:
    rest = 1.0 - theta
    entropy = np.zeros_like(theta)
    for part in (theta, rest):
        inside = part > 0.0
        entropy[inside] -= part[inside] * np.log(part[inside])
    return math.log(2.0) - entropy


def _g(s: np.ndarray) -> np.ndarray:
    """g(s) = h0(s)^2 / (2 s) with Lai's approximation of the stopping boundary h0."""
    s = np.asarray(s, dtype=float)
    bounded = np.minimum(s, 0.01)
    log_inverse = np.log(1.0 / bounded)
    tiny = bounded * (
        2.0 * log_inverse
        + np.log(log_inverse)
        - math.log(4.0 * math.pi)
        - 3.0 * np.exp(-0.016 / np.sqrt(bounded))
    )
    h0 = np.select(
        [s < 0.01, s < 0.1, s < 0.8],
        [np.sqrt(tiny), 0.39 - 0.015 / np.sqrt(s), np.exp(-0.69 * s - 1.0)],
        0.25 * math.sqrt(2.0 / math.pi) * (s**-0.5 - 5.0 / (48.0 * math.pi) * s**-2.5),
    )
    return h0**2 / (2.0 * s)


def _crossings(stop_at: np.ndarray, up_probability: float) -> tuple[np.ndarray, np.ndarray]:
    """Probability of stopping at exactly the m-th discordant pair, for arm 1 and for arm 0."""
    n_max = len(stop_at) - 1
    up, down = np.zeros(n_max + 1), np.zeros(n_max + 1)
    alive = np.ones(1)
    lowest = 0
    """Entry i of `alive` is the probability of `lowest + i` pairs for arm 1."""
    for m in range(1, n_max + 1):
        moved = np.empty(len(alive) + 1)
        moved[0] = 0.0
        moved[1:] = alive * up_probability
        moved[:-1] += alive * (1.0 - up_probability)
        majority = int(stop_at[m])
        # Going on needs m - majority < a < majority.
        begin = min(max(m - majority + 1 - lowest, 0), len(moved))
        end = max(min(majority - lowest, len(moved)), begin)
        # At most times nothing stops on one side or the other, and a sum takes as long as a step.
        if begin > 0:
            down[m] = moved[:begin].sum()
        if end < len(moved):
            up[m] = moved[end:].sum()
        alive, lowest = moved[begin:end], lowest + begin
        if len(alive) == 0:
            break
    return up, down
