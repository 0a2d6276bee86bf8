"""Parquet: a document a row, read a row group at a time."""

from __future__ import annotations

from collections import OrderedDict
from threading import Lock
from typing import Any

import numpy as np
import pyarrow
import pyarrow.parquet

from trainer.data.errors import DataError
from trainer.data.locations import Location
from trainer.data.text.documents import Columns, Document, document_of
from trainer.data.text.source import TextSource

# Shuffled reading goes from group to group; a few stay at hand.
_GROUPS_AT_HAND = 4


class ParquetDocuments(TextSource):
    """Documents may be asked for by several threads.

    Raises DataError for a file that is no parquet, and for columns that are not there.
    """

    def __init__(self, file: Location, columns: Columns) -> None:
        self.where = str(file)
        self._folder = file.parent
        try:
            self._file = pyarrow.parquet.ParquetFile(file.local())
        except (pyarrow.ArrowInvalid, OSError) as error:
            raise DataError(f"not a whole parquet file: {error}", where=file) from error
        names = self._file.schema_arrow.names
        # A row may lack what the others have: which of the columns it has is asked of each.
        self._columns = columns
        used = set(vars(columns.chosen(names, self.where)).values()) & {*names}
        self._read_names = sorted(used)
        metadata = self._file.metadata
        sizes = [metadata.row_group(n).num_rows for n in range(metadata.num_row_groups)]
        self._ends = np.cumsum(sizes, dtype=np.int64)
        self._groups: OrderedDict[int, list[dict[str, Any]]] = OrderedDict()
        # A training reads ahead while it measures.
        self._reading = Lock()

    def __len__(self) -> int:
        return int(self._ends[-1]) if len(self._ends) else 0

    def document(self, index: int) -> Document:
        group = int(np.searchsorted(self._ends, index, side="right"))
        start = int(self._ends[group - 1]) if group else 0
        record = self._rows(group)[index - start]
        return document_of(record, self._columns, f"{self.where}, row {index}", self._read_file)

    def _rows(self, group: int) -> list[dict[str, Any]]:
        with self._reading:
            if group not in self._groups:
                try:
                    table = self._file.read_row_group(group, columns=self._read_names)
                except (pyarrow.ArrowInvalid, OSError) as error:
                    raise DataError(f"row group {group}: {error}", where=self.where) from error
                self._groups[group] = table.to_pylist()
                while len(self._groups) > _GROUPS_AT_HAND:
                    self._groups.popitem(last=False)
            self._groups.move_to_end(group)
            return self._groups[group]

    def _read_file(self, path: str) -> bytes:
        return self._folder.inside(path).read_bytes()
