"""The arrays of an `.npz` file, read one by one and in part, never through pickle.

`numpy.load` reads an array whole; an episode's images are hundreds of megabytes of which a window
wants two. Here the array's header is read, what lies before a range is skipped, and what lies after
it is not inflated.
"""

from __future__ import annotations

import math
import threading
import zipfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError

# All that zipfile and numpy raise for a file that is cut, corrupt or of another kind.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    EOFError,
    RuntimeError,
    SyntaxError,
    zipfile.BadZipFile,
    zlib.error,
)

_HEADER_READERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}
# numpy parses a header as Python's own syntax, and in Python 3.11 two threads that do so at once
# count one another's depth: "AST constructor recursion depth mismatch".
_parsing = threading.Lock()


@dataclass(frozen=True, kw_only=True)
class ArrayHeader:
    """is_pickled: holds Python objects, which this never reads."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    fortran_order: bool = False

    @property
    def is_pickled(self) -> bool:
        return self.dtype.hasobject


class NpzMembers:
    """open_file: opens the file anew, for reading and seeking. where: as errors call it."""

    def __init__(self, open_file: Callable[[], IO[bytes]], where: str) -> None:
        self._open_file = open_file
        self.where = where

    def headers(self) -> Mapping[str, ArrayHeader]:
        """Of every array, by name. Raises DataError for a file that is not whole."""
        with self._opened() as archive:
            names = [info.filename for info in archive.infolist()]
            found = {}
            for name in names:
                with archive.open(name) as member:
                    found[name.removesuffix(".npy")] = _read_header(member)
            return found

    def checksums(self) -> list[tuple[str, int, int]]:
        """Name, CRC-32 and size of every array, as the file tells them. Raises DataError."""
        with self._opened() as archive:
            return [(info.filename, info.CRC, info.file_size) for info in archive.infolist()]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Rows `start` to `stop` of an array, or a scalar whole.

        Raises DataError where the array is missing, pickled or corrupt.
        """
        with self._opened(name) as archive, archive.open(f"{name}.npy") as member:
            header = _read_header(member)
            if header.is_pickled:
                raise ValueError("holds pickled Python objects, which are never read")
            if header.fortran_order or not header.shape:
                whole = _read_numbers(member, header, header.shape)
                return whole[start:stop] if header.shape else whole
            start, stop, _ = slice(start, stop).indices(header.shape[0])
            row_bytes = header.dtype.itemsize * math.prod(header.shape[1:])
            member.seek(start * row_bytes, 1)
            array = _read_numbers(member, header, (max(stop - start, 0), *header.shape[1:]))
            if stop == header.shape[0]:
                # The end of the file was not looked at yet, and with it its checksum.
                member.read(1)
            return array

    @contextmanager
    def _opened(self, field: str | None = None) -> Iterator[zipfile.ZipFile]:
        try:
            with self._open_file() as file, zipfile.ZipFile(file) as archive:
                yield archive
        except DataError:
            raise
        except _UNREADABLE as error:
            raise DataError(
                f"cannot be read: {error or type(error).__name__}", where=self.where, field=field
            ) from error


def _read_header(member: IO[bytes]) -> ArrayHeader:
    version = np.lib.format.read_magic(member)
    if version not in _HEADER_READERS:
        raise ValueError(f"array of version {version}, expected 1.0 or 2.0")
    with _parsing:
        shape, fortran_order, dtype = _HEADER_READERS[version](member)
    return ArrayHeader(shape=shape, dtype=dtype, fortran_order=fortran_order)


def _read_numbers(
    member: IO[bytes], header: ArrayHeader, shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    num_bytes = header.dtype.itemsize * math.prod(shape)
    data = member.read(num_bytes)
    if len(data) != num_bytes:
        raise ValueError(f"expected {num_bytes} bytes, got {len(data)}: the file is cut short")
    order = "F" if header.fortran_order else "C"
    return np.frombuffer(data, header.dtype).reshape(shape, order=order)
