"""Positions and rotations out of fields, whatever layout they are stored in.

Axes: T control step. Rotations are given as they are stored, not mended: who checks data must see
what is wrong with it.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Field, FieldKind

ROTATION_6D_KINDS: Final[tuple[FieldKind, ...]] = (
    "rotation_6d_rows",
    "rotation_6d_columns",
    "rotation_6d_interleaved",
)


def has_position(field: Field) -> bool:
    return (field.kind, field.shape) in (("pose", (4, 4)), ("translation", (3,)))


def positions_of(field: Field, values: npt.NDArray[Any]) -> FloatArray | None:
    """(T, 3) in the field's unit, or None where it holds no position."""
    if not has_position(field):
        return None
    return np.asarray(values[:, :3, 3] if field.kind == "pose" else values, dtype=np.float64)


def rotations_of(field: Field, values: npt.NDArray[Any]) -> FloatArray | None:
    """(T, 3, 3), or None where it holds no rotation.

    Of six numbers, the third vector is the cross product of the two that are stored.
    """
    if field.kind == "pose" and field.shape == (4, 4):
        return np.asarray(values[:, :3, :3], dtype=np.float64)
    if field.kind == "rotation_matrix" and field.size == 9:
        return np.asarray(values, dtype=np.float64).reshape(-1, 3, 3)
    if field.kind in ROTATION_6D_KINDS and field.shape == (6,):
        return rotations_from_six(field.kind, np.asarray(values, dtype=np.float64))
    return None


def rotations_from_six(kind: FieldKind, values: FloatArray) -> FloatArray:
    """(T, 6) in a layout to (T, 3, 3), neither normalised nor made orthogonal."""
    if kind == "rotation_6d_interleaved":
        first, second = values[:, 0::2], values[:, 1::2]
    else:
        first, second = values[:, :3], values[:, 3:]
    axis = 1 if kind == "rotation_6d_rows" else 2
    return np.stack([first, second, np.cross(first, second)], axis=axis)


def sudden_step(changes: FloatArray, least: float) -> int | None:
    """The step of the largest change, where it is beyond `least` and far beyond the others.

    Beside the others, because a delta action differs from step to step by all that it is.
    """
    worst = int(np.argmax(changes))
    return worst if changes[worst] > max(least, 6 * float(np.quantile(changes, 0.9))) else None


def angles_between_rad(a: FloatArray, b: FloatArray) -> FloatArray:
    """(T,) of the rotations (T, 3, 3) that take a to b."""
    traces = np.einsum("tij,tij->t", a, b)
    return np.arccos(np.clip((traces - 1) / 2, -1, 1))
