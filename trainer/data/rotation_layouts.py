"""The three ways to write a rotation in six numbers, by name.

Data, checkpoints and papers disagree about them, and one read as another moves the robot wrongly
without an error. With r_ij the matrix's numbers:

    rows         r00 r01 r02  r10 r11 r12     LBM Eval, VLA Foundry, this project
    columns      r00 r10 r20  r01 r11 r21     Zhou et al. (CVPR 2019, arXiv:1812.07035)
    interleaved  r00 r01  r10 r11  r20 r21    the first two columns, read row by row
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Literal

import numpy as np
import numpy.typing as npt

from policy_interface.rotations import rotation_from_6d, rotation_to_6d
from policy_interface.types import FloatArray

RotationLayout = Literal["rows", "columns", "interleaved"]

# Names of the six numbers, in order.
ROTATION_NAMES: Mapping[RotationLayout, tuple[str, ...]] = MappingProxyType(
    {
        "rows": ("r00", "r01", "r02", "r10", "r11", "r12"),
        "columns": ("r00", "r10", "r20", "r01", "r11", "r21"),
        "interleaved": ("r00", "r01", "r10", "r11", "r20", "r21"),
    }
)
# The place in `columns` of each number of `interleaved`.
_INTERLEAVED = [0, 3, 1, 4, 2, 5]


def rotation_to_numbers(rotation: npt.ArrayLike, layout: RotationLayout) -> FloatArray:
    """(..., 3, 3) to (..., 6)."""
    matrix = np.asarray(rotation, dtype=np.float64)
    if layout == "rows":
        return rotation_to_6d(matrix)
    columns = rotation_to_6d(matrix.swapaxes(-1, -2))
    return columns if layout == "columns" else columns[..., _INTERLEAVED]


def rotation_from_numbers(numbers: npt.ArrayLike, layout: RotationLayout) -> FloatArray:
    """(..., 6) to the nearest (..., 3, 3) in Gram-Schmidt's sense.

    Raises InvalidValueError where the two rows or columns are not finite, vanish or are parallel.
    """
    six = np.asarray(numbers, dtype=np.float64)
    if layout == "rows":
        return rotation_from_6d(six)
    columns = six if layout == "columns" else six[..., np.argsort(_INTERLEAVED)]
    return rotation_from_6d(columns).swapaxes(-1, -2)
