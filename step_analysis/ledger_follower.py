"""A ledger that another process is writing, read as it grows."""

from pathlib import Path

from step_analysis.ledger import LedgerError
from step_analysis.rollouts import RolloutKey, RolloutRecord
from step_analysis.strict_json import FormatError

_NUM_BYTES_COMPARED = 256


class LedgerFollower:
    """All records so far, each line read once."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._start_anew()

    def _start_anew(self) -> None:
        self._num_bytes_read = 0
        self._num_lines_read = 0
        self._end = b""
        """The last bytes that were read: a file that no longer has them there was replaced."""
        self._records: list[RolloutRecord] = []
        self._counted_on_line: dict[RolloutKey, int] = {}

    def read(self) -> list[RolloutRecord]:
        """What is there now; a line that is half written is left for the next time.

        A file that was replaced or cut is read from its beginning.

        Raises:
            LedgerError: a line is no record, or a key has two counted records; each further
                call says so again, until the file is another one.
            OSError: there is nothing to read.
        """
        with self._path.open("rb") as file:
            file.seek(self._num_bytes_read - len(self._end))
            if file.read(len(self._end)) != self._end:
                self._start_anew()
                file.seek(0)
            content = file.read()
        whole = content[: content.rfind(b"\n") + 1]
        for line in whole.split(b"\n")[:-1]:
            self._add(line)
            self._num_lines_read += 1
            self._num_bytes_read += len(line) + 1
            self._end = (self._end + line + b"\n")[-_NUM_BYTES_COMPARED:]
        return self._records

    def _add(self, line: bytes) -> None:
        number = self._num_lines_read + 1
        try:
            record = RolloutRecord.from_json(line)
        except FormatError as error:
            raise LedgerError(f"{self._path}, line {number}: {error}") from None
        if record.outcome.counts:
            earlier = self._counted_on_line.setdefault(record.key, number)
            if earlier != number:
                raise LedgerError(
                    f"{self._path}, line {number}: {record.key} is counted on line {earlier} "
                    "already"
                )
        self._records.append(record)
