"""Intervals for the difference of two success rates, of arm 1 minus arm 0.

Independent arms: Newcombe, and Miettinen and Nurminen. Paired arms (both policies met the same
seeds): Newcombe, and Tango. Newcombe's are closed formulas that squeeze Wilson's intervals; the
other two invert a score test, whose restricted estimates are closed formulas too and serve the
confidence sequences as well.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from step_analysis.intervals import (
    DEFAULT_CONFIDENCE,
    Interval,
    check_confidence,
    check_counts,
    wilson,
)

_NUM_BISECTIONS = 60
"""Halves [-1, 1] down to the spacing of doubles."""


def newcombe(
    successes0: int,
    num_episodes0: int,
    successes1: int,
    num_episodes1: int,
    confidence: float = DEFAULT_CONFIDENCE,
) -> Interval:
    """The hybrid score interval for independent arms.

    Source: method 10 of Newcombe, Statistics in Medicine 17 (1998) 873-890. An arm without an
    episode could have any rate.

    Raises:
        ValueError: counts out of range, or a confidence outside (0, 1).
    """
    rate0, wilson0 = _rate(successes0, num_episodes0), wilson(successes0, num_episodes0, confidence)
    rate1, wilson1 = _rate(successes1, num_episodes1), wilson(successes1, num_episodes1, confidence)
    difference = rate1 - rate0
    return Interval(
        difference - math.hypot(rate1 - wilson1.lower, wilson0.upper - rate0),
        difference + math.hypot(wilson1.upper - rate1, rate0 - wilson0.lower),
    )


def miettinen_nurminen(
    successes0: int,
    num_episodes0: int,
    successes1: int,
    num_episodes1: int,
    confidence: float = DEFAULT_CONFIDENCE,
) -> Interval:
    """The score interval for independent arms; [-1, 1] if an arm has no episode.

    Source: Miettinen and Nurminen, Statistics in Medicine 4 (1985) 213-226, with their factor
    N / (N - 1) on the variance.

    Raises:
        ValueError: counts out of range, or a confidence outside (0, 1).
    """
    check_counts(successes0, num_episodes0)
    check_counts(successes1, num_episodes1)
    check_confidence(confidence)
    if num_episodes0 == 0 or num_episodes1 == 0:
        return Interval(-1.0, 1.0)
    total = num_episodes0 + num_episodes1
    observed = successes1 / num_episodes1 - successes0 / num_episodes0

    def score(difference: float) -> float:
        rate0, rate1 = restricted_rates(
            successes0, num_episodes0, successes1, num_episodes1, difference
        )
        variance = rate0 * (1.0 - rate0) / num_episodes0 + rate1 * (1.0 - rate1) / num_episodes1
        return _ratio(observed - difference, math.sqrt(float(variance) * total / (total - 1)))

    return _inverted(score, observed, confidence)


def restricted_rates(
    successes0: np.ndarray | float,
    num_episodes0: np.ndarray | float,
    successes1: np.ndarray | float,
    num_episodes1: np.ndarray | float,
    difference: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest rates (p0, p1) of independent arms among those with p1 - p0 = difference.

    The root of the likelihood equation, a cubic, in Miettinen and Nurminen's closed form.
    Arguments broadcast; each arm needs an episode.
    """
    x0, n0, x1, n1, d = (
        np.asarray(v, dtype=float)
        for v in (successes0, num_episodes0, successes1, num_episodes1, difference)
    )
    cubic = n0 + n1
    square = (n0 + 2.0 * n1) * -d - cubic - (x0 + x1)
    linear = (n1 * -d - cubic - 2.0 * x1) * -d + (x0 + x1)
    # Their cubic gives arm 0's rate; with the arms exchanged, and so the difference's sign turned,
    # it gives arm 1's.
    constant = x1 * -d * (1.0 + d)
    third = square / (3.0 * cubic)
    q = third**3 - square * linear / (6.0 * cubic**2) + constant / (2.0 * cubic)
    p = np.copysign(np.sqrt(np.maximum(third**2 - linear / (3.0 * cubic), 0.0)), q)
    with np.errstate(divide="ignore", invalid="ignore"):
        cosine = np.where(p == 0.0, 0.0, q / p**3)
    angle = (math.pi + np.arccos(np.clip(cosine, -1.0, 1.0))) / 3.0
    root = 2.0 * p * np.cos(angle) - third
    rate1 = np.clip(root, np.maximum(d, 0.0), np.minimum(1.0 + d, 1.0))
    return np.clip(rate1 - d, 0.0, 1.0), rate1


@dataclass(frozen=True, kw_only=True)
class PairedCounts:
    """Episodes on shared seeds, by the outcomes of (arm 0, arm 1)."""

    both: int
    only0: int
    only1: int
    neither: int

    def __post_init__(self) -> None:
        for name in ("both", "only0", "only1", "neither"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must be at least 0, got {getattr(self, name)}")

    @property
    def num_episodes(self) -> int:
        return self.both + self.only0 + self.only1 + self.neither


def newcombe_paired(counts: PairedCounts, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """The hybrid score interval for paired arms; [-1, 1] without an episode.

    Source: method 10 of Newcombe, Statistics in Medicine 17 (1998) 2635-2650: Wilson's intervals
    of both arms, joined with the estimated correlation, which is corrected for continuity where
    it is positive.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    check_confidence(confidence)
    n = counts.num_episodes
    if n == 0:
        return Interval(-1.0, 1.0)
    successes0, successes1 = counts.both + counts.only0, counts.both + counts.only1
    rate0, rate1 = successes0 / n, successes1 / n
    wilson0, wilson1 = (wilson(s, n, confidence) for s in (successes0, successes1))
    correlation = _corrected_correlation(counts)

    def joined(part1: float, part0: float) -> float:
        return math.sqrt(max(part1**2 - 2.0 * correlation * part1 * part0 + part0**2, 0.0))

    return Interval(
        max(rate1 - rate0 - joined(rate1 - wilson1.lower, wilson0.upper - rate0), -1.0),
        min(rate1 - rate0 + joined(wilson1.upper - rate1, rate0 - wilson0.lower), 1.0),
    )


def tango(counts: PairedCounts, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """The score interval for paired arms; [-1, 1] without an episode.

    Source: Tango, Statistics in Medicine 17 (1998) 891-908. At difference 0 it is McNemar's test.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    check_confidence(confidence)
    n = counts.num_episodes
    if n == 0:
        return Interval(-1.0, 1.0)
    observed = (counts.only1 - counts.only0) / n

    def score(difference: float) -> float:
        only0, only1 = restricted_discordance(counts.only0, counts.only1, n, difference)
        variance = float(only0 + only1) - difference**2
        return _ratio(observed - difference, math.sqrt(max(variance, 0.0) / n))

    return _inverted(score, observed, confidence)


def restricted_discordance(
    only0: np.ndarray | float,
    only1: np.ndarray | float,
    num_episodes: np.ndarray | float,
    difference: np.ndarray | float,
) -> tuple[np.ndarray, np.ndarray]:
    """The likeliest (P(only arm 0), P(only arm 1)) among those that differ by `difference`.

    The larger root of Tango's quadratic. Arguments broadcast; an episode is needed.
    """
    b, c, n, d = (np.asarray(v, dtype=float) for v in (only1, only0, num_episodes, difference))
    half = (-b - c + (2.0 * n - b + c) * d) / 2.0
    constant = -c * d * (1.0 - d)
    square = 2.0 * n
    root = (-half + np.sqrt(np.maximum(half**2 - square * constant, 0.0))) / square
    probability0 = np.clip(root, np.maximum(-d, 0.0), np.minimum((1.0 - d) / 2.0, 1.0))
    return probability0, np.maximum(probability0 + d, 0.0)


def _corrected_correlation(counts: PairedCounts) -> float:
    both, only0, only1, neither = counts.both, counts.only0, counts.only1, counts.neither
    margins = (both + only0) * (only1 + neither) * (both + only1) * (only0 + neither)
    if margins == 0:
        return 0.0
    product = both * neither - only0 * only1
    if product > 0:
        product = max(product - counts.num_episodes / 2.0, 0.0)
    return product / math.sqrt(margins)


def _inverted(score: Callable[[float], float], observed: float, confidence: float) -> Interval:
    """The differences whose score, which falls with them, is within the normal quantiles."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)

    def crossing(inside: float, outside: float, sign: float) -> float:
        if sign * score(outside) <= z:
            return outside
        for _ in range(_NUM_BISECTIONS):
            middle = (inside + outside) / 2.0
            if sign * score(middle) <= z:
                inside = middle
            else:
                outside = middle
        return inside

    return Interval(crossing(observed, -1.0, 1.0), crossing(observed, 1.0, -1.0))


def _ratio(numerator: float, denominator: float) -> float:
    if denominator == 0.0:
        return math.copysign(math.inf, numerator) if numerator else 0.0
    return numerator / denominator


def _rate(successes: int, num_episodes: int) -> float:
    check_counts(successes, num_episodes)
    return successes / num_episodes if num_episodes else 0.5
