"""JSON lines: a record a line, any line found at once."""

from __future__ import annotations

import numpy as np

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.text.documents import Columns, Document, document_of, parsed_json
from trainer.data.text.sources import TextSource
from trainer.data.text.unpacking import unpacked

_CHUNK = 2**22
_BLANK = frozenset(b" \t\r\n")
_LONGEST_BLANK = 8


class JsonLines(TextSource):
    """Opening it reads the file once, for where its lines begin. Blank lines are none."""

    def __init__(self, file: Location, columns: Columns) -> None:
        self.where = str(file)
        self._folder, self._columns = file.parent, columns
        self._path = unpacked(file)
        self._starts, self._numbers = self._find_lines()

    def __len__(self) -> int:
        return len(self._numbers)

    def document(self, index: int) -> Document:
        number = int(self._numbers[index])
        where = f"{self.where}, line {number}"
        with self._path.open("rb") as file:
            file.seek(int(self._starts[index]))
            line = file.readline()
        record = parsed_json(line, "", where)
        if not isinstance(record, dict):
            raise DataError(f"expected an object, got {type(record).__name__}", where=where)
        return document_of(record, self._columns, where, self._read_file)

    def _read_file(self, path: str) -> bytes:
        return self._folder.inside(path).read_bytes()

    def _find_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of the lines that hold something, and their numbers from 1."""
        ends: list[np.ndarray] = []
        size = 0
        with self._path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                ends.append(size + np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")))
                size += len(chunk)
        if not size:
            return np.zeros(0, np.int64), np.zeros(0, np.int64)
        # The last line may lack its end.
        after = np.unique(np.concatenate([*ends, [size - 1]]).astype(np.int64) + 1)
        starts = np.concatenate([[0], after[:-1]]).astype(np.int64)
        keep = np.ones(len(starts), bool)
        with self._path.open("rb") as file:
            for line in np.flatnonzero(after - starts <= _LONGEST_BLANK):
                file.seek(int(starts[line]))
                keep[line] = not set(file.read(int(after[line] - starts[line]))) <= _BLANK
        return starts[keep], np.flatnonzero(keep) + 1
