"""Numbers on their way into Drake."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt


def drake_array(values: npt.ArrayLike) -> Any:
    """A float64 array, typed as Any.

    Drake's stubs say `numpy.ndarray[numpy.float64[3, 1]]`, which type checkers take for an array
    whose *shape* is a float, and so refuse every array; to be removed when the stubs are right.
    """
    return np.asarray(values, dtype=np.float64)
