"""Confidence sequences: intervals that hold at all times at once, with no budget fixed.

Each is the set of values against which a bettor's wealth has stayed below 1 / alpha. Against the
true value the wealth is a nonnegative martingale that starts at 1, so it ever reaches 1 / alpha
with probability at most alpha (Ville's inequality): the true value is in all intervals at once
with at least the stated confidence, however often one looks and whenever one stops.

- Rates: the bet is the beta mixture, Robbins, Annals of Mathematical Statistics 41 (1970): the
  probability of the outcomes under p ~ Beta(1/2, 1/2) over that under the rate in question.
- Differences: for independent arms the product of both arms' mixtures, for paired ones a
  Dirichlet mixture over (only arm 0, only arm 1, alike); a difference is excluded when even its
  likeliest rates are.
- Means of scores in [0, 1]: the hedged capital process of Waudby-Smith and Ramdas, JRSS B 86
  (2024), with their predictable plug-in bets.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from step_analysis import special
from step_analysis.differences import restricted_discordance, restricted_rates
from step_analysis.intervals import DEFAULT_CONFIDENCE, check_confidence
from step_analysis.sequential.pairwise_test import outcome_arrays

_PRIOR = 0.5
_NUM_BISECTIONS = 40
LARGEST_BET = 0.5
"""Of the wealth that the worst outcome could lose."""
_MEAN_GRID = 1001


@dataclass(frozen=True, kw_only=True)
class ConfidenceSequence:
    """Intervals after 1, 2, ... episodes, each within the one before; float arrays of one length.

    The bounds cross where the data contradict a constant value: then no value is left.
    """

    lower: np.ndarray
    upper: np.ndarray


def rate_sequence(
    outcomes: Sequence[int] | np.ndarray, confidence: float = DEFAULT_CONFIDENCE
) -> ConfidenceSequence:
    """For one success rate, from outcomes 0 and 1 in order.

    Raises:
        ValueError: anything but 0 and 1, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    (x, _) = outcome_arrays(outcomes, outcomes, len(outcomes))
    successes, seen = np.cumsum(x), np.arange(1, len(x) + 1)
    mixture = _log_beta_mixture(successes, seen)

    def log_wealth(rate: np.ndarray) -> np.ndarray:
        return mixture - special.xlogy(successes, rate) - special.xlog1py(seen - successes, -rate)

    return _within(log_wealth, successes / np.maximum(seen, 1), (0.0, 1.0), confidence)


def difference_sequence(
    arm0: Sequence[int] | np.ndarray,
    arm1: Sequence[int] | np.ndarray,
    confidence: float = DEFAULT_CONFIDENCE,
) -> ConfidenceSequence:
    """For arm 1's success rate minus arm 0's, of independent arms.

    Raises:
        ValueError: unequal lengths, anything but 0 and 1, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    x, y = outcome_arrays(arm0, arm1, len(arm0))
    s0, s1, seen = np.cumsum(x), np.cumsum(y), np.arange(1, len(x) + 1)
    mixture = _log_beta_mixture(s0, seen) + _log_beta_mixture(s1, seen)

    def log_wealth(difference: np.ndarray) -> np.ndarray:
        rate0, rate1 = restricted_rates(s0, seen, s1, seen, difference)
        likelihood = special.xlogy(s0, rate0) + special.xlog1py(seen - s0, -rate0)
        return mixture - likelihood - special.xlogy(s1, rate1) - special.xlog1py(seen - s1, -rate1)

    return _within(log_wealth, (s1 - s0) / np.maximum(seen, 1), (-1.0, 1.0), confidence)


def paired_difference_sequence(
    arm0: Sequence[int] | np.ndarray,
    arm1: Sequence[int] | np.ndarray,
    confidence: float = DEFAULT_CONFIDENCE,
) -> ConfidenceSequence:
    """For arm 1's success rate minus arm 0's, where both met the same seeds in the same order.

    Valid whatever the dependence within a pair; pairs are independent of each other.

    Raises:
        ValueError: unequal lengths, anything but 0 and 1, or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    x, y = outcome_arrays(arm0, arm1, len(arm0))
    only0, only1, seen = np.cumsum(x > y), np.cumsum(y > x), np.arange(1, len(x) + 1)
    alike = seen - only0 - only1
    mixture = (
        sum(
            special.gammaln(count + _PRIOR) - special.gammaln(_PRIOR)
            for count in (only0, only1, alike)
        )
        - special.gammaln(seen + 3.0 * _PRIOR)
        + special.gammaln(3.0 * _PRIOR)
    )

    def log_wealth(difference: np.ndarray) -> np.ndarray:
        rate0, rate1 = restricted_discordance(only0, only1, seen, difference)
        rest = np.maximum(1.0 - rate0 - rate1, 0.0)
        return (
            mixture
            - special.xlogy(only0, rate0)
            - special.xlogy(only1, rate1)
            - special.xlogy(alike, rest)
        )

    return _within(log_wealth, (only1 - only0) / np.maximum(seen, 1), (-1.0, 1.0), confidence)


def mean_sequence(
    scores: Sequence[float] | np.ndarray, confidence: float = DEFAULT_CONFIDENCE
) -> ConfidenceSequence:
    """For the mean of scores in [0, 1], such as progress, whatever their law.

    The bounds are resolved to 0.001, outwards.

    Raises:
        ValueError: a score outside [0, 1], or a confidence outside (0, 1).
    """
    check_confidence(confidence)
    z = np.asarray(scores, dtype=float)
    if z.ndim != 1 or not ((z >= 0.0) & (z <= 1.0)).all():
        raise ValueError("scores must be one sequence of numbers within [0, 1]")
    bets = predictable_bets(z, 1.0 - confidence)
    means = np.linspace(0.0, 1.0, _MEAN_GRID)
    # Half of the wealth on either side. What is won against a mean by betting on higher scores
    # falls with that mean, factor by factor, so the grid's means that are excluded by it lie
    # below all others, and those excluded by betting on lower scores above.
    wealth_to_exclude = np.log(2.0) - np.log(1.0 - confidence)
    log_up, log_down = np.zeros(_MEAN_GRID), np.zeros(_MEAN_GRID)
    # The worst outcome, a score of 0 above or of 1 below, may take half of the wealth.
    cap_up, cap_down = (
        LARGEST_BET / np.maximum(risk, 0.5 / _MEAN_GRID) for risk in (means, 1.0 - means)
    )
    lower, upper = np.zeros(len(z)), np.ones(len(z))
    for t, (score, bet) in enumerate(zip(z, bets, strict=True)):
        log_up += np.log1p(np.minimum(bet, cap_up) * (score - means))
        log_down += np.log1p(np.minimum(bet, cap_down) * (means - score))
        lower[t] = means[log_up >= wealth_to_exclude].max(initial=0.0)
        upper[t] = means[log_down >= wealth_to_exclude].min(initial=1.0)
    return ConfidenceSequence(
        lower=np.maximum.accumulate(lower), upper=np.minimum.accumulate(upper)
    )


def paired_score_difference_sequence(
    scores0: Sequence[float], scores1: Sequence[float], confidence: float = DEFAULT_CONFIDENCE
) -> ConfidenceSequence:
    """For arm 1's mean score minus arm 0's, paired by position; scores within [0, 1].

    Valid whatever the dependence within a pair, so for independent arms too.

    Raises:
        ValueError: unequal lengths, a score outside [0, 1], or a confidence outside (0, 1).
    """
    first, second = np.asarray(scores0, dtype=float), np.asarray(scores1, dtype=float)
    if first.shape != second.shape:
        raise ValueError(f"scores of one length expected, got {first.shape}, {second.shape}")
    for scores in (first, second):
        if not ((scores >= 0.0) & (scores <= 1.0)).all():
            raise ValueError("scores must be numbers within [0, 1]")
    halved = mean_sequence(((second - first + 1.0) / 2.0).tolist(), confidence)
    return ConfidenceSequence(lower=2.0 * halved.lower - 1.0, upper=2.0 * halved.upper - 1.0)


def _log_beta_mixture(successes: np.ndarray, seen: np.ndarray) -> np.ndarray:
    mixture = special.betaln(successes + _PRIOR, seen - successes + _PRIOR)
    return mixture - special.betaln(_PRIOR, _PRIOR)


def _within(
    log_wealth: Callable[[np.ndarray], np.ndarray],
    estimates: np.ndarray,
    ends: tuple[float, float],
    confidence: float,
) -> ConfidenceSequence:
    """Where the wealth, which rises away from the estimate, is below 1 / alpha, at all times.

    The likelihood is log-concave, also when its other rates are those that suit it best, so the
    wealth rises on both sides and each bound is found by bisection, all times at once.
    """
    limit = -np.log(1.0 - confidence)
    bounds = []
    for end in ends:
        inside, outside = estimates.astype(float), np.full(len(estimates), end)
        whole = log_wealth(outside) < limit
        for _ in range(_NUM_BISECTIONS):
            middle = (inside + outside) / 2.0
            below = log_wealth(middle) < limit
            inside, outside = np.where(below, middle, inside), np.where(below, outside, middle)
        bounds.append(np.where(whole, end, outside))
    return ConfidenceSequence(
        lower=np.maximum.accumulate(bounds[0]), upper=np.minimum.accumulate(bounds[1])
    )


def predictable_bets(scores: np.ndarray, alpha: float) -> np.ndarray:
    """Each bet's size from the scores before it: their mean and variance, each with a prior."""
    t = np.arange(1, len(scores) + 1)
    means = (0.5 + np.cumsum(scores)) / (t + 1)
    variances = (0.25 + np.cumsum((scores - means) ** 2)) / (t + 1)
    known_before = np.concatenate([[0.25], variances[:-1]])[: len(scores)]
    return np.sqrt(2.0 * np.log(2.0 / alpha) / (known_before * t * np.log(t + 1)))
