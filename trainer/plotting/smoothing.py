"""A curve without its noise."""

from __future__ import annotations

import numpy as np

from policy_interface.types import FloatArray

# As many as an axis shows; a longer curve is averaged to these beforehand.
_MOST_POINTS = 480
# So little that it matters only where a point has no neighbour to draw a line to.
_RIDGE = 1e-3


def smoothed(
    x: FloatArray, y: FloatArray, bandwidth: float, *, in_logarithm: bool = False
) -> tuple[FloatArray, FloatArray]:
    """Places and smoothed values; x ascending, and what is not finite in y left out.

    By lines fitted at each place with Gaussian weights of standard deviation `bandwidth` (local
    linear regression; Fan and Gijbels, 1996): unlike a running mean, neither late nor drawn aside
    at the ends. in_logarithm: of the values' logarithms, which must be there.
    """
    kept = np.isfinite(y)
    x, y = x[kept].astype(np.float64), y[kept]
    if len(x) == 0:
        return x, y
    if in_logarithm:
        y = np.log(y)
    x, y, count = _averaged(x, y)
    distance = x - x[:, None]
    weight = count * np.exp(-0.5 * (distance / bandwidth) ** 2)
    s0, s1 = weight.sum(1), (weight * distance).sum(1)
    s2 = (weight * distance**2).sum(1) + _RIDGE * bandwidth**2 * s0
    t0, t1 = weight @ y, (weight * distance) @ y
    line = (s2 * t0 - s1 * t1) / (s0 * s2 - s1**2)
    return x, np.exp(line) if in_logarithm else line


def _averaged(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Means over as many columns as are shown, and of how many points each is."""
    column = np.arange(len(x)) * min(len(x), _MOST_POINTS) // len(x)
    count = np.bincount(column).astype(np.float64)
    return np.bincount(column, x) / count, np.bincount(column, y) / count, count
