"""Rows of a column of a parquet file, without what lies around them.

Parquet is read by row groups. Those that overlap the rows asked for are read, of the one column,
and the latest few stay in memory, since the next window usually lies in the same one.
"""

from __future__ import annotations

import difflib
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.errors import DataError
from trainer.data.locations import Location

MAX_OPEN_FILES = 8
# Of each open file; one row group stays whatever its size.
MAX_CACHED_BYTES = 32 << 20


class ParquetRows:
    """One open file. Raises DataError where it is missing or no parquet file."""

    def __init__(self, location: Location) -> None:
        self.where = location
        self._lock = threading.Lock()
        self._groups: OrderedDict[tuple[int, str], pa.ChunkedArray] = OrderedDict()
        try:
            source = location.path if location.is_local else location.open()
            self._file = pq.ParquetFile(source)
        except FileNotFoundError as error:
            raise DataError("no such file", where=location) from error
        except (pa.ArrowException, OSError) as error:
            raise DataError(f"cannot be read as parquet: {error}", where=location) from error
        metadata = self._file.metadata
        sizes = [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
        self._starts = np.concatenate([[0], np.cumsum(sizes, dtype=np.int64)])
        self._episodes: Mapping[int, tuple[int, int]] | None = None

    @property
    def num_rows(self) -> int:
        return int(self._starts[-1])

    @property
    def columns(self) -> list[str]:
        return self._file.schema_arrow.names

    def read(self, column: str, start: int, stop: int) -> pa.ChunkedArray:
        """Rows `start` to `stop`. Raises DataError for a missing column or a corrupt file."""
        if column not in self.columns:
            close = difflib.get_close_matches(column, self.columns, n=1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise DataError(
                f"no column {column!r}{hint}; there are {sorted(self.columns)}", where=self.where
            )
        if start >= stop:
            return pa.chunked_array([], type=self._file.schema_arrow.field(column).type)
        first = int(np.searchsorted(self._starts, start, side="right")) - 1
        last = int(np.searchsorted(self._starts, stop, side="left"))
        with self._lock:
            chunks = [
                chunk
                for group in range(first, last)
                for chunk in self._read_group(group, column).chunks
            ]
        offset = start - int(self._starts[first])
        return pa.chunked_array(chunks).slice(offset, stop - start)

    def episode_rows(self, episode_index: int) -> tuple[int, int]:
        """Where an episode's rows begin, and how many there are; found in the rows themselves.

        Raises DataError where they don't lie together.
        """
        if self._episodes is None:
            self._episodes = self._find_episodes()
        return self._episodes.get(episode_index, (0, 0))

    def _find_episodes(self) -> Mapping[int, tuple[int, int]]:
        numbers = to_numpy(self.read("episode_index", 0, self.num_rows)).reshape(-1)
        changes = np.flatnonzero(np.diff(numbers)) + 1
        starts = np.concatenate([[0], changes]) if len(numbers) else np.zeros(0, np.int64)
        ends = np.append(starts[1:], len(numbers))
        found: dict[int, tuple[int, int]] = {}
        for start, end in zip(starts, ends, strict=True):
            number = int(numbers[start])
            if number in found:
                raise DataError(
                    f"the rows of episode {number} don't lie together", where=self.where
                )
            found[number] = (int(start), int(end - start))
        return found

    def _read_group(self, group: int, column: str) -> pa.ChunkedArray:
        key = (group, column)
        if key not in self._groups:
            try:
                table = self._file.read_row_group(group, columns=[column], use_threads=False)
            except (pa.ArrowException, OSError) as error:
                raise DataError(
                    f"column {column!r} is corrupt: {error}", where=self.where
                ) from error
            self._groups[key] = table.column(0)
            held = sum(chunked.nbytes for chunked in self._groups.values())
            while held > MAX_CACHED_BYTES and len(self._groups) > 1:
                _, dropped = self._groups.popitem(last=False)
                held -= dropped.nbytes
        self._groups.move_to_end(key)
        return self._groups[key]


def to_numpy(column: pa.ChunkedArray) -> npt.NDArray[Any]:
    """(rows, ...) of numbers, lists of numbers of one length, or lists of those.

    Raises DataError where a number is missing or the lists differ in length.
    """
    num_rows = len(column)
    array = column.combine_chunks()
    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    shape = [num_rows]
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    while isinstance(array, pa.FixedSizeListArray | pa.ListArray | pa.LargeListArray):
        if array.null_count:
            raise DataError(f"{array.null_count} of {num_rows} rows are missing")
        inner = array.flatten()
        length, rest = divmod(len(inner), max(len(array), 1))
        lengths = array.value_lengths().to_numpy(zero_copy_only=False)
        if rest or (lengths != length).any():
            raise DataError("the rows' lists differ in length")
        shape.append(length)
        array = inner
    if array.null_count:
        raise DataError(f"{array.null_count} of {len(array)} numbers are missing")
    numbers = array.to_numpy(zero_copy_only=False)
    if numbers.dtype.hasobject:
        raise DataError(f"expected numbers, got {array.type}")
    return numbers.reshape(shape)


# By process, since a forked one would share the files' positions with its parent.
_files: OrderedDict[tuple[int, str, str, str], ParquetRows] = OrderedDict()
_files_lock = threading.Lock()


def open_parquet(location: Location, opening: str) -> ParquetRows:
    """Open, or still open from the last call. Raises DataError.

    opening: of the data set; one that is opened anew does not get what the file held before. A
    local file that was written anew is noticed at once; to look at a remote one is a message.
    """
    version = ""
    if location.is_local and location.exists():
        status = location.local().stat()
        version = f"{status.st_size} {status.st_mtime_ns}"
    key = (os.getpid(), opening, str(location), version)
    with _files_lock:
        if key in _files:
            _files.move_to_end(key)
            return _files[key]
    opened = ParquetRows(location)
    with _files_lock:
        opened = _files.setdefault(key, opened)
        while len(_files) > MAX_OPEN_FILES:
            _files.popitem(last=False)
    return opened
