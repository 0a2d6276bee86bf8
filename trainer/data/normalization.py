"""Scaling of named numbers to order one, and exactly back.

A quantile range is mapped to [-1, 1]; what lies outside stays outside, since a clipped target is a
wrong target. A value that cannot be handled raises; nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray


class NormalizationError(ValueError):
    """Statistics that cannot be read, or values that they do not cover."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalizer:
    """normalized = (value - center) / scale.

    names: one a number. center, scale: (D,), or (T, D) for one scale each timestep.
    """

    names: tuple[str, ...]
    center: FloatArray
    scale: FloatArray

    def __post_init__(self) -> None:
        object.__setattr__(self, "names", tuple(self.names))
        for name in ("center", "scale"):
            array = np.array(getattr(self, name), dtype=np.float64)
            array.flags.writeable = False
            object.__setattr__(self, name, array)
        if self.center.shape != self.scale.shape or self.center.shape[-1:] != (len(self.names),):
            raise NormalizationError(
                f"normalizer: expected center and scale of {len(self.names)} numbers, "
                f"got {self.center.shape} and {self.scale.shape}"
            )
        if not (np.isfinite(self.center).all() and np.isfinite(self.scale).all()):
            raise NormalizationError("normalizer: expected finite statistics")
        if not (self.scale > 0).all():
            raise NormalizationError("normalizer: expected positive scales")

    @staticmethod
    def fit(
        values: npt.ArrayLike,
        *,
        names: tuple[str, ...],
        scale_floors: npt.ArrayLike,
        quantiles: tuple[float, float],
        valid: npt.NDArray[np.bool_] | None = None,
    ) -> Normalizer:
        """From samples.

        values: (N, D) for one scale; (N, T, D) for one each timestep, `valid` (N, T) saying which
        samples count. scale_floors: (D,), the least that half a quantile range may be.
        """
        samples = np.asarray(values, dtype=np.float64)
        if samples.ndim == 2:
            low, high = np.quantile(samples, quantiles, axis=0)
        else:
            counted = np.ones(samples.shape[:2], bool) if valid is None else valid
            ranges = [
                np.quantile(samples[counted[:, t], t], quantiles, axis=0)
                if counted[:, t].any()
                # No episode reaches this far beyond an anchor: nothing will be trained here.
                else np.zeros((2, samples.shape[2]))
                for t in range(samples.shape[1])
            ]
            low, high = np.stack(ranges, axis=1)
        return Normalizer(
            names=names,
            center=(low + high) / 2,
            scale=np.maximum((high - low) / 2, np.asarray(scale_floors, dtype=np.float64)),
        )

    def normalize(self, values: npt.ArrayLike) -> FloatArray:
        return (self._checked(values) - self.center) / self.scale

    def denormalize(self, values: npt.ArrayLike) -> FloatArray:
        return self._checked(values) * self.scale + self.center

    def _checked(self, values: npt.ArrayLike) -> FloatArray:
        array = np.asarray(values, dtype=np.float64)
        covered = self.center.shape
        if array.shape[array.ndim - len(covered) :] != covered or array.ndim < len(covered):
            raise NormalizationError(
                f"expected values of shape (..., {', '.join(map(str, covered))}), "
                f"which the statistics cover, got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise NormalizationError("expected finite values, got NaN or infinity")
        return array

    def to_fields(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
        }

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> Normalizer:
        try:
            return Normalizer(
                names=tuple(fields["names"]), center=fields["center"], scale=fields["scale"]
            )
        except (KeyError, TypeError) as error:
            raise NormalizationError(f"normalizer: malformed statistics: {error!r}") from error
