"""Intervals for one success rate: Clopper-Pearson, Wilson, Jeffreys, and the Beta posterior."""

from dataclasses import dataclass

import numpy as np

from step_analysis.beta_quantile import beta_quantile, log_beta
from step_analysis.wilson_interval import (
    DEFAULT_CONFIDENCE,
    Interval,
    check_confidence,
    check_counts,
    wilson,
)

__all__ = [
    "DEFAULT_CONFIDENCE",
    "BetaPosterior",
    "Interval",
    "check_confidence",
    "check_counts",
    "clopper_pearson",
    "jeffreys",
    "wilson",
]


def clopper_pearson(
    successes: int, num_episodes: int, confidence: float = DEFAULT_CONFIDENCE
) -> Interval:
    """The exact two-sided interval: covers the true rate with at least `confidence`.

    Source: Clopper and Pearson, Biometrika 26 (1934), by quantiles of the Beta law.

    Raises:
        ValueError: counts out of range, or a confidence outside (0, 1).
    """
    check_counts(successes, num_episodes)
    check_confidence(confidence)
    tail = (1.0 - confidence) / 2.0
    failures = num_episodes - successes
    lower = beta_quantile(successes, failures + 1, tail) if successes else 0.0
    upper = beta_quantile(successes + 1, failures, 1.0 - tail) if failures else 1.0
    return Interval(lower, upper)


def jeffreys(successes: int, num_episodes: int, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """The equal-tailed interval of Beta(s + 1/2, f + 1/2): covers about `confidence` on average.

    Source: Brown, Cai and DasGupta, Statistical Science 16 (2001), with their ends: 0 without a
    success, 1 without a failure.

    Raises:
        ValueError: counts out of range, or a confidence outside (0, 1).
    """
    check_counts(successes, num_episodes)
    check_confidence(confidence)
    tail = (1.0 - confidence) / 2.0
    a, b = successes + 0.5, num_episodes - successes + 0.5
    lower = beta_quantile(a, b, tail) if successes else 0.0
    upper = beta_quantile(a, b, 1.0 - tail) if successes < num_episodes else 1.0
    return Interval(lower, upper)


@dataclass(frozen=True, kw_only=True)
class BetaPosterior:
    """What is believed of a success rate after some episodes, from a uniform prior Beta(1, 1)."""

    successes: int
    num_episodes: int

    def __post_init__(self) -> None:
        check_counts(self.successes, self.num_episodes)

    @property
    def a(self) -> int:
        return self.successes + 1

    @property
    def b(self) -> int:
        return self.num_episodes - self.successes + 1

    @property
    def mean(self) -> float:
        return self.a / (self.a + self.b)

    def quantile(self, probability: float) -> float:
        """The rate that the true one lies below with `probability`."""
        return beta_quantile(self.a, self.b, probability)

    def interval(self, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
        """The central credible interval."""
        check_confidence(confidence)
        tail = (1.0 - confidence) / 2.0
        return Interval(self.quantile(tail), self.quantile(1.0 - tail))

    def density(self, rates: np.ndarray) -> np.ndarray:
        """The posterior density at `rates`, of any shape, each in [0, 1]."""
        rates = np.asarray(rates, dtype=float)
        # At the ends a power of 0 is 0, and one without successes or failures is 1.
        with np.errstate(divide="ignore"):
            log_density = -log_beta(self.a, self.b) * np.ones_like(rates)
            if self.a > 1:
                log_density += (self.a - 1) * np.log(rates)
            if self.b > 1:
                log_density += (self.b - 1) * np.log1p(-rates)
        return np.exp(log_density)
