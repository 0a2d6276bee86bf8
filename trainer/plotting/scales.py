"""From numbers to places along an axis, and the round numbers that are written there."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray

# Where a quantity spans more than this, its small values would lie on the axis.
_SPAN_OF_LOGARITHM = 30.0
# Beyond these, numbers a little further apart are no numbers any more.
_SMALLEST_LOGARITHMIC, _LARGEST_LOGARITHMIC = 1e-100, 1e100
# An axis of powers of ten marks a few numbers between them where it has no more of these.
_FEW_POWERS = 2
_UNITS = ((1e9, "G"), (1e6, "M"), (1e4, "k"))


@dataclass(frozen=True, kw_only=True)
class Scale:
    """low, high: the axis' ends; positive where it is logarithmic."""

    low: float
    high: float
    is_logarithmic: bool = False

    @staticmethod
    def over(values: FloatArray, *, may_be_logarithmic: bool) -> Scale:
        """An axis on which all finite values lie, with some air."""
        shown = values[np.isfinite(values)]
        if len(shown) == 0:
            return Scale(low=0.0, high=1.0)
        low, high = float(shown.min()), float(shown.max())
        has_logarithms = low > _SMALLEST_LOGARITHMIC and high < _LARGEST_LOGARITHMIC
        if may_be_logarithmic and has_logarithms and high / low > _SPAN_OF_LOGARITHM:
            air = (high / low) ** 0.06
            return Scale(low=low / air, high=high * air, is_logarithmic=True)
        # A flat curve runs through the middle of a band, not along its edge.
        margin = max(0.06 * (high - low), 0.02 * max(abs(low), abs(high)), 1e-9)
        floor = low - margin
        if low >= 0:
            # Nothing that cannot be negative has an axis that is; and from near 0, it begins there.
            floor = 0.0 if low < 0.4 * high else max(0.0, floor)
        return Scale(low=floor, high=high + margin)

    def parts(self, values: npt.ArrayLike) -> FloatArray:
        """Where they lie: 0 at `low`, 1 at `high`."""
        numbers = np.asarray(values, dtype=np.float64)
        low, high = self.low, self.high
        if self.is_logarithmic:
            numbers, low, high = np.log(numbers), math.log(low), math.log(high)
        return (numbers - low) / (high - low)

    def ticks(self, most: int = 5) -> list[float]:
        """Round numbers within, ascending; about as many as may be."""
        if not self.is_logarithmic:
            return _even_ticks(self.low, self.high, most)
        first, last = math.ceil(math.log10(self.low)), math.floor(math.log10(self.high))
        powers = last - first + 1
        if powers > _FEW_POWERS:
            stride = -(-powers // (most + 1))
            return [10.0**n for n in range(first, last + 1, stride)]
        between = [f * 10.0**n for n in range(first - 1, last + 1) for f in (1, 2, 5)]
        return [tick for tick in between if self.low <= tick <= self.high]


def _even_ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2 or 5 times a power of ten apart."""
    rough = (high - low) / most
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= 0.999 * rough)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [float(f"{number * step:.12g}") for number in range(first, last + 1)]


def in_short(value: float) -> str:
    """`0.25`, `12 k`, `1.5 M`, `2e-05`."""
    for factor, letter in _UNITS:
        if abs(value) >= factor:
            divisor = 1e3 if letter == "k" else factor
            return f"{value / divisor:.4g} {letter}"
    return f"{value:.4g}"
