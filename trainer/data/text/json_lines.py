"""JSON lines: a record a line, any line found at once."""

from __future__ import annotations

import numpy as np

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.text.documents import Columns, Document, document_of, parsed_json
from trainer.data.text.source import TextSource
from trainer.data.text.unpacking import unpacked

_CHUNK = 2**22
_BLANK = frozenset(b" \t\r\n")
_LONGEST_BLANK = 8


class JsonLines(TextSource):
    """Opening it reads the file once, for where its lines begin. Blank lines are none.

    part: of so many parts of the file, as long as each other, the lines that begin in this one;
    no more is read.
    """

    def __init__(
        self, file: Location, columns: Columns, *, part: int = 0, num_parts: int = 1
    ) -> None:
        self.where = str(file)
        self._folder, self._columns = file.parent, columns
        self._path = unpacked(file)
        size = self._path.stat().st_size
        self._begin, self._end = (size * each // num_parts for each in (part, part + 1))
        self._starts, self._numbers = self._find_lines()

    def __len__(self) -> int:
        return len(self._numbers)

    def document(self, index: int) -> Document:
        number, start = int(self._numbers[index]), int(self._starts[index])
        # How many lines come before a part is not known.
        place = f"the line at byte {start:,}" if self._begin else f"line {number}"
        where = f"{self.where}, {place}"
        with self._path.open("rb") as file:
            file.seek(start)
            line = file.readline()
        record = parsed_json(line, "", where)
        if not isinstance(record, dict):
            raise DataError(f"expected an object, got {type(record).__name__}", where=where)
        return document_of(record, self._columns, where, self._read_file)

    def _read_file(self, path: str) -> bytes:
        return self._folder.inside(path).read_bytes()

    def _find_lines(self) -> tuple[np.ndarray, np.ndarray]:
        """Offsets of the part's lines that hold something, and their numbers from 1."""
        # From the byte before: a line begins in this part where that one ends another.
        first = max(self._begin - 1, 0)
        ends: list[np.ndarray] = []
        at = first
        with self._path.open("rb") as file:
            file.seek(first)
            while chunk := file.read(min(_CHUNK, self._end - at)):
                ends.append(at + np.flatnonzero(np.frombuffer(chunk, np.uint8) == ord("\n")))
                at += len(chunk)
            # The last line may go on beyond the part, or lack its end.
            file.seek(at)
            behind = at + len(file.readline())
        first_line = [] if self._begin else [np.zeros(1, np.int64)]
        begins = np.concatenate([*first_line, *(each + 1 for each in ends)], dtype=np.int64)
        after = np.append(begins[1:], behind)
        keep = begins < self._end
        with self._path.open("rb") as file:
            for line in np.flatnonzero(keep & (after - begins <= _LONGEST_BLANK)):
                file.seek(int(begins[line]))
                keep[line] = not set(file.read(int(after[line] - begins[line]))) <= _BLANK
        return begins[keep], np.flatnonzero(keep) + 1
