"""Poses as arrays: relative, inverted, and put together from the fields that data has them in.

Axes: T control step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Field
from trainer.data.errors import DataError
from trainer.data.rotation_layouts import (
    RotationLayout,
    rotation_from_numbers,
    rotation_to_numbers,
)

_ROTATION_KINDS: Mapping[str, RotationLayout] = {
    "rotation_6d_rows": "rows",
    "rotation_6d_columns": "columns",
    "rotation_6d_interleaved": "interleaved",
}


def inverse_poses(poses: FloatArray) -> FloatArray:
    """X_BA from X_AB, (..., 4, 4) each."""
    rotation_transposed = poses[..., :3, :3].swapaxes(-1, -2)
    inverse = np.zeros_like(poses)
    inverse[..., :3, :3] = rotation_transposed
    inverse[..., :3, 3:] = -rotation_transposed @ poses[..., :3, 3:]
    inverse[..., 3, 3] = 1.0
    return inverse


def make_poses(rotation: FloatArray, translation_m: FloatArray) -> FloatArray:
    """(..., 3, 3) and (..., 3) to (..., 4, 4)."""
    poses = np.zeros((*translation_m.shape[:-1], 4, 4))
    poses[..., :3, :3] = rotation
    poses[..., :3, 3] = translation_m
    poses[..., 3, 3] = 1.0
    return poses


@dataclass(frozen=True)
class PoseFields:
    """Where a pose is: one field of matrices, or one of translations and one of rotations."""

    pose: str | None = None
    translation: str | None = None
    rotation: str | None = None

    def __post_init__(self) -> None:
        split = self.translation is not None and self.rotation is not None
        partial = self.translation is not None or self.rotation is not None
        if (self.pose is not None) == split or (self.pose is not None and partial):
            raise DataError(
                "pose: expected one field of poses, or one of translations and one of rotations"
            )

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(name for name in (self.pose, self.translation, self.rotation) if name)

    def check(self, fields: Mapping[str, Field]) -> None:
        """Raises DataError for fields of other kinds."""
        for name, expected in (
            (self.pose, ("pose",)),
            (self.translation, ("translation",)),
            (self.rotation, ("rotation_matrix", *_ROTATION_KINDS)),
        ):
            if name is not None and fields[name].kind not in expected:
                raise DataError(
                    f"expected a field of kind {' or '.join(expected)}, got {fields[name].kind!r}",
                    field=name,
                )

    def join(
        self, values: Mapping[str, npt.NDArray[Any]], fields: Mapping[str, Field]
    ) -> FloatArray:
        """The fields' values (..., *shape) to poses (..., 4, 4)."""
        if self.pose is not None:
            return np.asarray(values[self.pose], dtype=np.float64)
        assert self.translation is not None
        assert self.rotation is not None
        rotation = np.asarray(values[self.rotation], dtype=np.float64)
        kind = fields[self.rotation].kind
        if kind in _ROTATION_KINDS:
            rotation = rotation_from_numbers(rotation, _ROTATION_KINDS[kind])
        return make_poses(rotation, np.asarray(values[self.translation], dtype=np.float64))

    def split(self, poses: FloatArray, fields: Mapping[str, Field]) -> dict[str, FloatArray]:
        """The inverse of `join`."""
        if self.pose is not None:
            return {self.pose: poses}
        assert self.translation is not None
        assert self.rotation is not None
        rotation = poses[..., :3, :3]
        kind = fields[self.rotation].kind
        if kind in _ROTATION_KINDS:
            rotation = rotation_to_numbers(rotation, _ROTATION_KINDS[kind])
        return {self.translation: poses[..., :3, 3], self.rotation: rotation}
