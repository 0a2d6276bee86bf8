"""Wilson's interval for one success rate, with the standard library alone.

The simulator's side shows intervals too, and does without the analysis dependencies.
"""

import math
from statistics import NormalDist
from typing import NamedTuple

DEFAULT_CONFIDENCE = 0.95


class Interval(NamedTuple):
    """A range: of rates within [0, 1], or of differences of two rates within [-1, 1]."""

    lower: float
    upper: float


def wilson(successes: int, num_episodes: int, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Wilson's score interval: narrower than the exact one, covers about `confidence`.

    Source: Wilson, JASA 22 (1927). Without an episode it is [0, 1].

    Raises:
        ValueError: counts out of range, or a confidence outside (0, 1).
    """
    check_counts(successes, num_episodes)
    check_confidence(confidence)
    if num_episodes == 0:
        return Interval(0.0, 1.0)
    z = NormalDist().inv_cdf(0.5 + confidence / 2.0)
    rate = successes / num_episodes
    shrink = 1.0 + z * z / num_episodes
    centre = (rate + z * z / (2.0 * num_episodes)) / shrink
    spread = rate * (1.0 - rate) / num_episodes + (z / (2.0 * num_episodes)) ** 2
    half = z * math.sqrt(spread) / shrink
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    lower = centre - half if successes else 0.0
    upper = centre + half if successes < num_episodes else 1.0
    return Interval(lower, upper)


def check_counts(successes: int, num_episodes: int) -> None:
    """Raises ValueError unless 0 <= successes <= num_episodes."""
    if not 0 <= successes <= num_episodes:
        raise ValueError(
            f"successes must lie between 0 and the number of episodes, got {successes} "
            f"of {num_episodes}"
        )


def check_confidence(confidence: float) -> None:
    """Raises ValueError unless the confidence lies in (0, 1)."""
    if not 0.0 < confidence < 1.0:
        raise ValueError(f"confidence must lie strictly between 0 and 1, got {confidence}")
