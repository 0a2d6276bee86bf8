"""Arrays of a value that was checked as plain numbers, made when somebody looks at them.

Of the two dozen arrays of an observation most policies look at a few, and making the others takes
longer than checking all of their numbers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class DeferredArrays:
    """A base for frozen dataclasses some of whose fields are arrays, or mappings of arrays."""

    # By field: the numbers of an array, or a dict of those of several by name.
    _numbers: Mapping[str, Any]

    def __getattr__(self, name: str) -> Any:
        # Asked only for what is not there, or not yet. Threads that ask at once make the same.
        numbers = self.__dict__.get("_numbers", _NOTHING).get(name)
        if numbers is None:
            raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")
        made = (
            MappingProxyType({key: _array(each) for key, each in numbers.items()})
            if isinstance(numbers, dict)
            else _array(numbers)
        )
        self.__dict__[name] = made
        return made


def _array(numbers: Sequence[float]) -> FloatArray:
    """Read-only: nine numbers are a 3x3 matrix in row-major order, all others a vector."""
    array = np.array(numbers, dtype=np.float64)
    if array.size == 9:
        array = array.reshape(3, 3)
    array.flags.writeable = False
    return array
