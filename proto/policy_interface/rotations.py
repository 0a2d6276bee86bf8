"""The six-number rotation: the first two *rows* of the matrix, flattened.

LBM Eval and VLA Foundry take rows where Zhou et al. (CVPR 2019, arXiv:1812.07035) take columns;
a model trained with one and served with the other moves the robot wrongly and raises no error.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray, InvalidValueError

# Below this length a row carries no direction and no rotation can be made of it.
_MIN_ROW_NORM = 1e-6


def rotation_to_6d(rotation: npt.ArrayLike) -> FloatArray:
    """(..., 3, 3) rotation matrices to (..., 6): row 0, then row 1."""
    matrix = np.asarray(rotation, dtype=np.float64)
    if matrix.shape[-2:] != (3, 3):
        raise InvalidValueError(f"rotation: expected (..., 3, 3), got {matrix.shape}")
    return matrix[..., :2, :].reshape(*matrix.shape[:-2], 6)


def rotation_from_6d(rotation_6d: npt.ArrayLike) -> FloatArray:
    """(..., 6) to the nearest (..., 3, 3) rotation matrices in Gram-Schmidt's sense.

    Raises InvalidValueError where the two rows are not finite, vanish or are parallel.
    """
    rows = np.asarray(rotation_6d, dtype=np.float64)
    if rows.shape[-1:] != (6,):
        raise InvalidValueError(f"rotation_6d: expected (..., 6), got {rows.shape}")
    # Both rows are scaled first, so that "parallel" is an angle, whatever their lengths.
    first, second = _normalized(rows[..., :3]), _normalized(rows[..., 3:])
    second = _normalized(second - (first * second).sum(-1, keepdims=True) * first)
    return np.stack([first, second, np.cross(first, second)], axis=-2)


def _normalized(row: FloatArray) -> FloatArray:
    norm = np.linalg.norm(row, axis=-1, keepdims=True)
    # Written so that NaN and overflow are refused too.
    if not ((norm > _MIN_ROW_NORM) & (norm < np.inf)).all():
        raise InvalidValueError(
            f"rotation_6d: expected two independent finite rows, got one of length {norm.min()}"
        )
    return row / norm
