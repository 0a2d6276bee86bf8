"""The append-only ledger of an evaluation: one JSON line an attempt, exactly once a key.

A line is written with one call and synced before the runner goes on, so a kill at any moment
loses at most the attempt being written. What a kill or a full disk leaves of a last line has no
newline: readers ignore it, and the next writer cuts it off. Standard library only.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from step_analysis.atomic_file import sync_folder, write_atomically
from step_analysis.rollouts import EvaluationDesign, RolloutKey, RolloutRecord
from step_analysis.strict_json import FormatError

LEDGER_FILE_NAME = "ledger.jsonl"
DESIGN_FILE_NAME = "evaluation.json"
# Above the ledgers of policies that were compared.
STUDY_FILE_NAME = "study.json"

# `is_being_written` holds the lock for the microseconds of asking; a writer stays.
_NUM_LOCK_TRIES = 5
_LOCK_PAUSE_S = 0.02


class LedgerError(Exception):
    """A ledger that can't be opened, read or extended; the text says why in one line."""


class Ledger:
    """A ledger open for writing, by one process at a time.

        with Ledger(folder / LEDGER_FILE_NAME) as ledger:
            ledger.append(record)

    The lock is the operating system's and ends with the process, however it ends.
    """

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        self._descriptor: int | None = None
        self._size = 0
        self._records: list[RolloutRecord] = []
        self._finished: dict[RolloutKey, RolloutRecord] = {}
        self._attempts: dict[RolloutKey, int] = {}

    def __enter__(self) -> Self:
        """Lock the file, creating it if needed, cut off a torn last line, and read the rest.

        Raises:
            LedgerError: another process is writing, or a line is corrupt.
            OSError: the folder is missing or not writable.
        """
        descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        try:
            self._lock(descriptor)
            content = _read_all(descriptor)
            whole = content[: content.rfind(b"\n") + 1]
            self._records = _parse(whole, self.path)
            if len(whole) < len(content):
                os.ftruncate(descriptor, len(whole))
                os.fsync(descriptor)
            sync_folder(self.path.parent)
        except BaseException:
            os.close(descriptor)
            raise
        self._descriptor = descriptor
        self._size = len(whole)
        self._finished = {r.key: r for r in self._records if r.outcome.counts}
        self._attempts = {}
        for record in self._records:
            self._note_attempt(record)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def _lock(self, descriptor: int) -> None:
        for tries_left in reversed(range(_NUM_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if not tries_left:
                    raise LedgerError(
                        f"{self.path}: another process is writing this ledger; "
                        "wait for it or stop it"
                    ) from None
                time.sleep(_LOCK_PAUSE_S)
            else:
                return

    @property
    def records(self) -> Sequence[RolloutRecord]:
        """All records so far, in the order of writing."""
        return tuple(self._records)

    def finished_keys(self) -> frozenset[RolloutKey]:
        """The keys with a counted record; an error leaves its key open for another attempt."""
        return frozenset(self._finished)

    def next_attempt(self, key: RolloutKey) -> int:
        """The number that the next attempt at `key` carries: 1 for the first."""
        return self._attempts.get(key, 0) + 1

    def append(self, record: RolloutRecord) -> None:
        """Write one record and wait until it is on the disk.

        Raises:
            LedgerError: the key has a counted record already, or the ledger is not open.
            OSError: the disk is full or broken; the ledger then ends with its last whole record.
        """
        if self._descriptor is None:
            raise LedgerError(f"{self.path}: not open; use it in a with statement")
        finished = self._finished.get(record.key)
        if record.outcome.counts and finished is not None:
            raise LedgerError(
                f"{self.path}: {record.key} has its outcome already ({finished.outcome}); "
                "a counted episode is recorded exactly once"
            )
        line = record.to_json().encode("ascii") + b"\n"
        try:
            written = os.write(self._descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "no room for a whole record", str(self.path))
            os.fsync(self._descriptor)
        except OSError:
            # Readers ignore a torn tail anyway; cutting it keeps a later append from joining it.
            with contextlib.suppress(OSError):
                os.ftruncate(self._descriptor, self._size)
            raise
        self._size += len(line)
        self._records.append(record)
        self._note_attempt(record)
        if record.outcome.counts:
            self._finished[record.key] = record

    def _note_attempt(self, record: RolloutRecord) -> None:
        self._attempts[record.key] = max(self._attempts.get(record.key, 0), record.attempt)


def read_ledger(path: Path | str) -> list[RolloutRecord]:
    """All whole records of a ledger, which another process may be writing meanwhile.

    Raises:
        LedgerError: a line is corrupt, or a key has two counted records; names file and line.
        OSError: the file can't be read.
    """
    path = Path(path)
    content = path.read_bytes()
    return _parse(content[: content.rfind(b"\n") + 1], path)


def is_being_written(path: Path | str) -> bool:
    """Whether a process has this ledger open for writing now.

    Raises:
        OSError: there is no such file.
    """
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        # Shared, so that several may ask at once; given back at once, for who comes to write.
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def latest_outcomes(records: Iterable[RolloutRecord]) -> dict[RolloutKey, RolloutRecord]:
    """For each key its counted record, or its last error if none counts.

    Raises:
        LedgerError: a key has two different counted records.
    """
    latest: dict[RolloutKey, RolloutRecord] = {}
    for record in records:
        known = latest.get(record.key)
        if known is None or not known.outcome.counts:
            latest[record.key] = record
        elif record.outcome.counts and record != known:
            raise LedgerError(f"{record.key}: two counted records, only one may decide")
    return latest


def merge_ledgers(sources: Iterable[Path | str], destination: Path | str) -> list[RolloutRecord]:
    """Write one ledger with the records of all `sources`, each record once, in their order.

    Raises:
        LedgerError: `destination` exists, or two sources hold different counted records of a key.
    """
    destination = Path(destination)
    if destination.exists():
        raise LedgerError(f"{destination}: exists already; merging writes a new ledger")
    merged: list[RolloutRecord] = []
    seen: set[str] = set()
    for source in sources:
        for record in read_ledger(source):
            line = record.to_json()
            if line not in seen:
                seen.add(line)
                merged.append(record)
    latest_outcomes(merged)
    write_atomically(destination, "".join(record.to_json() + "\n" for record in merged))
    return merged


def write_design(path: Path | str, design: EvaluationDesign) -> None:
    """Write an evaluation's design whole or not at all."""
    write_atomically(Path(path), design.to_json())


def read_design(path: Path | str) -> EvaluationDesign:
    """The design in `path`.

    Raises:
        LedgerError: the file is not a design; names the file.
        OSError: the file can't be read.
    """
    try:
        return EvaluationDesign.from_json(Path(path).read_bytes())
    except FormatError as error:
        raise LedgerError(f"{path}: {error}") from None


def _read_all(descriptor: int) -> bytes:
    blocks = []
    os.lseek(descriptor, 0, os.SEEK_SET)
    while block := os.read(descriptor, 1 << 20):
        blocks.append(block)
    return b"".join(blocks)


def _parse(content: bytes, path: Path) -> list[RolloutRecord]:
    records: list[RolloutRecord] = []
    counted_on_line: dict[RolloutKey, int] = {}
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            record = RolloutRecord.from_json(line)
        except FormatError as error:
            raise LedgerError(f"{path}, line {number}: {error}") from None
        if record.outcome.counts:
            earlier = counted_on_line.setdefault(record.key, number)
            if earlier != number:
                raise LedgerError(
                    f"{path}, line {number}: {record.key} is counted on line {earlier} already"
                )
        records.append(record)
    return records
