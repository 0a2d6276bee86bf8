"""Scaling of named numbers to order one, and exactly back.

One object does it for training and serving, and its inverse is computed from the same parameters.
What lies outside a range stays outside, since a clipped target is a wrong target. A value that
cannot be handled raises, in both directions alike; nothing is clamped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.configuration import NormalizationConfig
from trainer.data.statistics.field_statistics import FieldStatistics
from trainer.data.statistics.summary import Summary


class NormalizationError(ValueError):
    """Statistics that cannot be read, or values that they do not cover."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Normalizer:
    """normalized = (value - center) / scale.

    names: one a number. center, scale: (D,), or (T, D) for one scale each timestep.
    first_step: of the T timesteps, counted from the anchor; it is not positive.
    """

    names: tuple[str, ...]
    center: FloatArray
    scale: FloatArray
    first_step: int = 0

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
        if self.first_step != 0 and not -len(self.center) < self.first_step < 0:
            raise NormalizationError(
                f"normalizer: expected the anchor among its {len(self.center)} timesteps, "
                f"got a first step {self.first_step} from it"
            )

    @property
    def is_per_timestep(self) -> bool:
        return self.center.ndim == 2

    @staticmethod
    def from_statistics(
        statistics: FieldStatistics, config: NormalizationConfig, scale_floors: npt.ArrayLike
    ) -> Normalizer:
        """scale_floors: (D,), the least that a scale may be, in the numbers' own units.

        Raises NormalizationError where a number was never seen. A timestep that no episode is
        long enough for, where nothing can be trained, is left as it is but for the floors.
        """
        floors = np.asarray(scale_floors, dtype=np.float64)
        names = statistics.names
        unseen = [n for n, c in zip(names, statistics.overall.count, strict=True) if c == 0]
        if unseen:
            raise NormalizationError(f"statistics hold no finite number of {unseen}")
        if config.scope == "global":
            center, scale = _range(statistics.overall, config)
            first_step = 0
        else:
            ranges = [_range(summary, config) for summary in statistics.per_step]
            center, scale = np.stack([c for c, _ in ranges]), np.stack([s for _, s in ranges])
            first_step = -statistics.past
        return Normalizer(
            names=names, center=center, scale=np.maximum(scale, floors), first_step=first_step
        )

    def normalize(self, values: npt.ArrayLike, first_step: int | None = None) -> FloatArray:
        """(..., T, D), or (..., D) where there is one scale for all timesteps.

        first_step: of the values, from the anchor; None: they are all that the statistics cover.
        Raises NormalizationError for timesteps that the statistics do not cover.
        """
        array, center, scale = self._covered(values, first_step)
        return (array - center) / scale

    def denormalize(self, values: npt.ArrayLike, first_step: int | None = None) -> FloatArray:
        """The inverse of `normalize`, and as strict."""
        array, center, scale = self._covered(values, first_step)
        return array * scale + center

    def _covered(
        self, values: npt.ArrayLike, first_step: int | None
    ) -> tuple[FloatArray, FloatArray, FloatArray]:
        array = np.asarray(values, dtype=np.float64)
        center, scale = self.center, self.scale
        if self.is_per_timestep and first_step is not None and array.ndim >= 2:
            start = first_step - self.first_step
            stop = start + array.shape[-2]
            if not 0 <= start <= stop <= len(center):
                raise NormalizationError(
                    f"expected timesteps within {self.first_step} to "
                    f"{self.first_step + len(center) - 1} from the anchor, which the statistics "
                    f"cover, got {first_step} to {first_step + array.shape[-2] - 1}"
                )
            center, scale = center[start:stop], scale[start:stop]
        covered = center.shape
        if array.shape[array.ndim - len(covered) :] != covered or array.ndim < len(covered):
            raise NormalizationError(
                f"expected values of shape (..., {', '.join(map(str, covered))}), "
                f"which the statistics cover, got {array.shape}"
            )
        if not np.isfinite(array).all():
            raise NormalizationError("expected finite values, got NaN or infinity")
        return array, center, scale

    def to_fields(self) -> dict[str, Any]:
        return {
            "names": list(self.names),
            "center": self.center.tolist(),
            "scale": self.scale.tolist(),
            "first_step": self.first_step,
        }

    @staticmethod
    def from_fields(fields: Mapping[str, Any]) -> Normalizer:
        """Also what was written before there was a first step, when it was always the anchor."""
        try:
            return Normalizer(
                names=tuple(fields["names"]),
                center=fields["center"],
                scale=fields["scale"],
                first_step=int(fields.get("first_step", 0)),
            )
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, NormalizationError):
                raise
            raise NormalizationError(f"normalizer: malformed statistics: {error!r}") from error


def _range(summary: Summary, config: NormalizationConfig) -> tuple[FloatArray, FloatArray]:
    """Center and scale (D,), the scale without its floor; zeros where nothing was seen."""
    seen = summary.count > 0
    if config.method == "std":
        return np.where(seen, summary.mean, 0.0), np.where(seen, summary.std, 0.0)
    if config.method == "min_max":
        low, high = summary.minimum, summary.maximum
    else:
        low, high = summary.quantiles([config.lower_quantile, config.upper_quantile])
    low, high = np.where(seen, low, 0.0), np.where(seen, high, 0.0)
    if config.centered:
        return (low + high) / 2, (high - low) / 2
    return low, high - low
