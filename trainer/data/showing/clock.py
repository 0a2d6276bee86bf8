"""The time that is shown of a control step."""

from __future__ import annotations

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.episode import Episode

# Where an episode does not say how fast it was.
DEFAULT_RATE_HZ = 10.0


def shown_times_s(episode: Episode) -> FloatArray:
    """(T,), the episode's own; those of an even rate where some of its own are no numbers."""
    times_s = episode.times_s()
    if np.isfinite(times_s).all():
        return times_s
    return np.arange(len(times_s)) / (episode.description.rate_hz or DEFAULT_RATE_HZ)
