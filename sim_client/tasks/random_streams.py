"""One stream of random numbers for each thing that a seed decides.

Streams are told apart by name, so that a new object, or a wider range of one coordinate, moves
nothing else: all the other draws of the same seed stay as they were.
"""

from __future__ import annotations

import zlib

import numpy as np


def stream(seed: int, name: str, *, attempt: int = 0) -> np.random.Generator:
    """The generator of what is called `name` in the scenario of `seed`, at this attempt."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), attempt])
