"""A ledger that another process is writing, read as it grows."""

from __future__ import annotations

from pathlib import Path

from step_analysis.ledger import LedgerError
from step_analysis.rollouts import RolloutRecord
from step_analysis.strict_json import FormatError


class LedgerFollower:
    """All records so far, each line read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._num_bytes_read = 0
        self._num_lines_read = 0
        self._records: list[RolloutRecord] = []

    def read(self) -> list[RolloutRecord]:
        """What is there now; a line that is half written is left for the next time.

        Raises LedgerError for a line that is no record, OSError where there is nothing to read.
        """
        with self._path.open("rb") as file:
            file.seek(self._num_bytes_read)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.splitlines():
            self._num_lines_read += 1
            try:
                self._records.append(RolloutRecord.from_json(line))
            except FormatError as error:
                raise LedgerError(f"{self._path}, line {self._num_lines_read}: {error}") from None
        self._num_bytes_read += len(whole)
        return self._records
