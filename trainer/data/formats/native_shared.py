"""What the steps of an episode have in common, stored once in its file.

Of a row: the words of eight bytes that no step changes, such as a pose's last row, the calibration
of a camera that stands still and a field that is constant. Of a camera's JPEG files: how they
begin, which is their header and their quantisation tables. What is left of a window is still one
range of bytes, and is put together again bit for bit.

    itemsize bytes      a row, of which the words that are not stored count
    words / 8 bytes     a bit a word, whether it is stored in every row; the first bit the highest
    4 bytes a camera    how many bytes its frames' files have in common
    those bytes
    zeros               up to where the rows begin

Axes: N row, W word of a row, S word that is stored.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError

_WORD = 8
_JPEG_START = b"\xff\xd8"
_HUFFMAN_TABLES, _START_OF_SCAN = 0xC4, 0xDA


@dataclass(frozen=True, kw_only=True, eq=False)
class SharedParts:
    """dtype: of a row. row_W: of which the words that are not in stored_S count, None where all are
    stored. beginnings: by a camera's place, of its files."""

    dtype: np.dtype[Any]
    row_W: npt.NDArray[np.uint64] | None
    stored_S: npt.NDArray[np.int64]
    beginnings: tuple[bytes, ...]

    @staticmethod
    def nothing(dtype: np.dtype[Any], num_cameras: int) -> SharedParts:
        """As files of the format's first version have it: rows and frames are whole."""
        return SharedParts(
            dtype=dtype,
            row_W=None,
            stored_S=np.arange(dtype.itemsize // _WORD),
            beginnings=(b"",) * num_cameras,
        )

    @staticmethod
    def of(rows: npt.NDArray[Any], beginnings: Sequence[bytes]) -> SharedParts:
        words_NW = rows.view(np.uint64).reshape(len(rows), -1)
        changing_W = (words_NW != words_NW[:1]).any(axis=0)
        changing_W[: _always_stored(len(beginnings))] = True
        return SharedParts(
            dtype=rows.dtype,
            row_W=np.where(changing_W, np.uint64(0), words_NW[0]),
            stored_S=np.flatnonzero(changing_W),
            beginnings=tuple(beginnings),
        )

    def to_bytes(self) -> bytes:
        assert self.row_W is not None
        stored_W = np.zeros(len(self.row_W), np.bool_)
        stored_W[self.stored_S] = True
        lengths = struct.pack(f"<{len(self.beginnings)}I", *map(len, self.beginnings))
        row = self.row_W.tobytes()
        return row + np.packbits(stored_W).tobytes() + lengths + b"".join(self.beginnings)

    @staticmethod
    def from_bytes(data: bytes, dtype: np.dtype[Any], num_cameras: int) -> SharedParts:
        """Raises DataError where they are not what `to_bytes` gives."""
        num_words = dtype.itemsize // _WORD
        lengths_at = dtype.itemsize + -(-num_words // 8)
        place = lengths_at + 4 * num_cameras
        if len(data) < place:
            raise DataError("what its steps share is cut short: corrupt")
        stored_W = np.unpackbits(
            np.frombuffer(data, np.uint8, lengths_at - dtype.itemsize, dtype.itemsize),
            count=num_words,
        )
        if not stored_W[: _always_stored(num_cameras)].all():
            raise DataError("its rows do not tell where frames lie: corrupt")
        beginnings: list[bytes] = []
        for length in struct.unpack_from(f"<{num_cameras}I", data, lengths_at):
            beginnings.append(data[place : place + length])
            place += length
        if place > len(data):
            raise DataError("what its frames share is cut short: corrupt")
        return SharedParts(
            dtype=dtype,
            row_W=np.frombuffer(data, np.uint64, num_words),
            stored_S=np.flatnonzero(stored_W),
            beginnings=tuple(beginnings),
        )

    @property
    def row_bytes(self) -> int:
        """Of a row as it is stored."""
        return _WORD * len(self.stored_S)

    def pack(self, rows: npt.NDArray[Any]) -> bytes:
        return rows.view(np.uint64).reshape(len(rows), -1)[:, self.stored_S].tobytes()

    def unpack(self, data: bytes) -> npt.NDArray[Any]:
        """(N,) rows, read-only."""
        if self.row_W is None:
            return np.frombuffer(data, self.dtype)
        num_rows = len(data) // self.row_bytes
        words_NW = np.empty((num_rows, len(self.row_W)), np.uint64)
        words_NW[:] = self.row_W
        words_NW[:, self.stored_S] = np.frombuffer(data, np.uint64).reshape(
            num_rows, len(self.stored_S)
        )
        rows = words_NW.view(self.dtype)[:, 0]
        rows.flags.writeable = False
        return rows

    def whole_file(self, camera: int, data: memoryview) -> memoryview:
        """A file that does not begin as others do was stored whole: what is left of one begins with
        a marker, and never with the one that begins a file."""
        beginning = self.beginnings[camera]
        if not beginning or data[:2] == _JPEG_START:
            return data
        return memoryview(beginning + data)


def without_beginning(beginning: bytes, file: bytes) -> bytes:
    """What is stored of a file; all of one that does not begin so."""
    rest = file[len(beginning) : len(beginning) + 2]
    # Or what is left could not be told from a whole file.
    is_marker = rest[:1] == b"\xff" and rest != _JPEG_START
    return file[len(beginning) :] if is_marker and file.startswith(beginning) else file


def _always_stored(num_cameras: int) -> int:
    """Words: the time and where the frames lie keep their place at a row's beginning."""
    return 1 + (num_cameras + 1 if num_cameras else 0)


def common_beginning(files: Sequence[bytes]) -> bytes:
    """Of JPEG files; empty where they have none or are others.

    Up to the scan where different files have the same Huffman tables, which are the standard's
    then, or up to those tables: the next frame may happen to have a frame's own, others do not.
    """
    first = files[0]
    ends = _ends_of_segments(first)
    if len(set(files)) == 1:
        ends.pop(_START_OF_SCAN, None)
    for marker in (_START_OF_SCAN, _HUFFMAN_TABLES):
        beginning = first[: ends.get(marker, 0)]
        if beginning and all(file.startswith(beginning) for file in files):
            return beginning
    return b""


def _ends_of_segments(file: bytes) -> dict[int, int]:
    """By the marker that follows first, up to the scan. Nothing of what is no JPEG file."""
    ends: dict[int, int] = {}
    place = len(_JPEG_START) if file.startswith(_JPEG_START) else len(file)
    while file[place : place + 1] == b"\xff" and place + 4 <= len(file):
        marker = file[place + 1]
        ends.setdefault(marker, place)
        if marker == _START_OF_SCAN:
            break
        place += 2 + int.from_bytes(file[place + 2 : place + 4], "big")
    return ends
