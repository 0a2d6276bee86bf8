"""Random numbers as a function of where they are used: no state, no order, no worker.

Draw k of sample n under a seed is a hash of the three. So what happens to a sample is the same
whichever process makes it, whatever was made before, and for a whole batch at once. The hash is
the finaliser of SplitMix64 (Steele, Lea and Flood, OOPSLA 2014), applied once an input.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray

UintArray = npt.NDArray[np.uint64]

_GOLDEN = np.uint64(0x9E3779B97F4A7C15)
_FIRST, _SECOND = np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB)


def hashed(*inputs: npt.ArrayLike) -> UintArray:
    """64 bits of integers from 0 to 2**64 - 1, which are broadcast against each other."""
    state = np.zeros((), np.uint64)
    with np.errstate(over="ignore"):
        for each in inputs:
            state = _mixed((state ^ np.asarray(each).astype(np.uint64)) + _GOLDEN)
    return state


def _mixed(state: UintArray) -> UintArray:
    state = (state ^ (state >> np.uint64(30))) * _FIRST
    state = (state ^ (state >> np.uint64(27))) * _SECOND
    return state ^ (state >> np.uint64(31))


def uniform(*inputs: npt.ArrayLike) -> FloatArray:
    """In [0, 1), in steps of 2**-53."""
    return (hashed(*inputs) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def normal(*inputs: npt.ArrayLike) -> FloatArray:
    """Of mean 0 and variance 1 (Box and Muller 1958)."""
    radius = np.sqrt(-2 * np.log1p(-uniform(*inputs, 0)))
    return radius * np.cos(2 * np.pi * uniform(*inputs, 1))
