"""STEP boundaries: at which counts to stop for "arm 1 is better"; the other side is the mirror."""

from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import numpy as np

from step_analysis.sequential.step_design import StepDesign


class Boundary(Protocol):
    """Anything that stops by the counts (t, x, y), mirrored; what the verifier can judge."""

    @property
    def n_max(self) -> int: ...

    def stop_weights(self, t: int, width: int) -> np.ndarray:
        """Chance to stop for "arm 1 is better" at (t, x, x + d), shape (t + 1, width).

        Column 0, a tie, never stops.
        """
        ...


@dataclass(frozen=True, kw_only=True)
class StepBoundary:
    """A deterministic boundary: one integer for each time and count.

    `stop_at[t, x]` is the smallest y > x at which to stop for "arm 1 is better"; n_max + 1 where
    there is none. int16, shape (n_max + 1, n_max + 1). It does not decrease with x: more evidence
    never stops less.

    Raises:
        ValueError: `stop_at` is not such an array.
    """

    design: StepDesign
    stop_at: np.ndarray

    def __post_init__(self) -> None:
        size = self.n_max + 1
        stop_at = self.stop_at
        if stop_at.shape != (size, size) or stop_at.dtype != np.int16:
            raise ValueError(
                f"a boundary of shape {(size, size)} and int16 expected, got "
                f"{stop_at.shape} and {stop_at.dtype}"
            )
        if not ((stop_at > np.arange(size)).all() and stop_at.max() <= size):
            raise ValueError("a boundary must lie above the diagonal and within n_max + 1")
        if (stop_at[:, 1:] < stop_at[:, :-1]).any():
            raise ValueError("a boundary must not decrease with the other arm's successes")

    @property
    def n_max(self) -> int:
        return self.design.n_max

    @property
    def alpha_per_side(self) -> float:
        return self.design.alpha_per_side

    def stop_weights(self, t: int, width: int) -> np.ndarray:
        """1 where it stops, else 0; see `Boundary`."""
        lead = self.stop_at[t, : t + 1] - np.arange(t + 1, dtype=np.int16)
        return np.arange(width, dtype=np.int16) >= lead[:, None]

    @property
    def treats_outcomes_alike(self) -> bool:
        """Whether swapping success and failure mirrors it: (x, y) stops where (t - y, t - x) does.

        Then its error at rate p is that at 1 - p.
        """
        for t in range(1, self.n_max + 1):
            stop_at = self.stop_at[t, : t + 1].astype(np.int64)
            # The rows z with stop_at[z] <= t - x are 0..last; y stops at x if t - y is among them.
            last = np.searchsorted(stop_at, t - np.arange(t + 1), side="right") - 1
            mirrored = np.where(last >= 0, t - last, self.n_max + 1)
            if not np.array_equal(mirrored, np.where(stop_at <= t, stop_at, self.n_max + 1)):
                return False
        return True


@dataclass(frozen=True, kw_only=True)
class RandomisedBoundary:
    """A boundary with weights: at a few counts it stops with a chance between 0 and 1.

    For each time and count it continues below `listed_from[t, x]`, stops from `stop_at[t, x]` on,
    and in between stops with the chances listed in `weights`, which run through t, then x, then
    y <= t. Where there is no such y, both are n_max + 1.

    Raises:
        ValueError: shapes or ranges that do not fit together.
    """

    design: StepDesign
    listed_from: np.ndarray
    stop_at: np.ndarray
    weights: np.ndarray

    def __post_init__(self) -> None:
        size = self.n_max + 1
        for name in ("listed_from", "stop_at"):
            array = getattr(self, name)
            if array.shape != (size, size) or array.dtype != np.int16:
                raise ValueError(f"{name} must be int16 of shape {(size, size)}")
        rows_fit = (self.listed_from > np.arange(size)) & (self.listed_from <= self.stop_at)
        if not (rows_fit & (self.stop_at <= size)).all():
            raise ValueError("a boundary must lie above the diagonal and within n_max + 1")
        if self.weights.shape != (self._offsets[-1],):
            raise ValueError(f"{self._offsets[-1]} weights expected, got {len(self.weights)}")
        if not ((self.weights >= 0.0) & (self.weights <= 1.0)).all():
            raise ValueError("weights must lie between 0 and 1")

    @property
    def n_max(self) -> int:
        return self.design.n_max

    @property
    def alpha_per_side(self) -> float:
        return self.design.alpha_per_side

    @cached_property
    def _offsets(self) -> np.ndarray:
        """Where the weights of each (t, x) begin, and in one more entry where the last end."""
        beyond = np.arange(1, self.n_max + 2)[:, None]
        num_listed = np.minimum(self.stop_at, beyond) - np.minimum(self.listed_from, beyond)
        return np.concatenate([[0], np.cumsum(num_listed.ravel())])

    def weight(self, t: int, x: int, y: int) -> float:
        """Chance to stop at (t, x, y), where one is listed: listed_from <= y < stop_at."""
        row = t * (self.n_max + 1) + x
        return float(self.weights[self._offsets[row] + y - int(self.listed_from[t, x])])

    def stop_weights(self, t: int, width: int) -> np.ndarray:
        """See `Boundary`."""
        x = np.arange(t + 1)
        first, end = self.listed_from[t, : t + 1], np.minimum(self.stop_at[t, : t + 1], t + 1)
        weights = (np.arange(width) >= (end - x)[:, None]).astype(float)
        for row in np.flatnonzero(end > first).tolist():
            for y in range(int(first[row]), min(int(end[row]), row + width)):
                weights[row, y - row] = self.weight(t, row, y)
        return weights
