"""The append-only ledger of an evaluation: one JSON line an attempt, exactly once a key.

A line is written with one call and synced before the runner goes on, so a kill at any moment
loses at most the attempt being written. What a kill or a full disk leaves of a last line has no
newline: readers ignore it, and the next writer cuts it off. Standard library only.

Several processes may write one ledger, in containers of their own too, if they all open it as
shared: each holds the ledger for as long as it lives, and takes its turn to read what the others
have written and to append. All locks are flock's: the operating system's, which end with the
process however it ends.
"""

import contextlib
import errno
import fcntl
import os
import time
from collections.abc import Iterable, Iterator, Sequence
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
# A turn takes as long as the disk needs for a line or two; a slow one may be busy with films.
_TURN_TIMEOUT_S = 120.0


class LedgerError(Exception):
    """A ledger that can't be opened, read or extended; the text says why in one line."""


class Ledger:
    """A ledger open for writing: by one process, or by several that all share it.

    with Ledger(folder / LEDGER_FILE_NAME) as ledger:
        ledger.append(record)

    with Ledger(folder / LEDGER_FILE_NAME, shared=True) as ledger, ledger.turn() as news:
        ...  # news: what others have appended since our last turn
    """

    def __init__(self, path: Path | str, *, shared: bool = False) -> None:
        self.path = Path(path)
        self._shared = shared
        self._descriptor: int | None = None
        self._turns: int | None = None
        self._has_turn = False
        self._size = 0
        self._records: list[RolloutRecord] = []
        self._finished: dict[RolloutKey, RolloutRecord] = {}
        self._attempts: dict[RolloutKey, int] = {}

    def __enter__(self) -> Self:
        """Lock the file, creating it if needed, cut off a torn last line, and read the rest.

        Raises:
            LedgerError: another process writes it and does not share it, or a line is corrupt.
            OSError: the folder is missing or not writable.
        """
        self._size, self._records, self._finished, self._attempts = 0, [], {}, {}
        self._descriptor = _open(self.path)
        try:
            self._hold(fcntl.LOCK_SH if self._shared else fcntl.LOCK_EX)
            if self._shared:
                self._turns = _open(self.path.with_name(f".{self.path.name}.turn"))
            with self.turn():
                sync_folder(self.path.parent)
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for descriptor in (self._descriptor, self._turns):
            if descriptor is not None:
                os.close(descriptor)
        self._descriptor = self._turns = None

    @contextlib.contextmanager
    def turn(self) -> Iterator[Sequence[RolloutRecord]]:
        """While entered, nobody else appends; what others have appended since our last turn.

        Raises:
            LedgerError: a line of theirs is corrupt, or another process keeps its turn.
            OSError: the file can't be read.
        """
        if self._turns is not None:
            self._await_turn(self._turns)
        self._has_turn = True
        try:
            yield self._read_new()
        finally:
            self._has_turn = False
            if self._turns is not None:
                fcntl.flock(self._turns, fcntl.LOCK_UN)

    def is_ours_alone(self) -> bool:
        """Whether no other process holds this ledger. Within our turn nobody can begin to use it.

        Raises:
            LedgerError: another process has taken it for itself in the meantime.
        """
        if not self._shared:
            return True
        descriptor = self._open_descriptor()
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        finally:
            # The system may drop the lock that it could not change.
            self._hold(fcntl.LOCK_SH)
        return True

    def _hold(self, kind: int) -> None:
        descriptor = self._open_descriptor()
        for tries_left in reversed(range(_NUM_LOCK_TRIES)):
            try:
                fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                if not tries_left:
                    raise LedgerError(
                        f"{self.path}: another process is writing this ledger; "
                        "wait for it or stop it"
                    ) from None
                time.sleep(_LOCK_PAUSE_S)
            else:
                return

    def _await_turn(self, turns: int) -> None:
        assert not self._has_turn, "a turn within a turn would wait for itself"
        deadline_s = time.monotonic() + _TURN_TIMEOUT_S
        while True:
            try:
                fcntl.flock(turns, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() > deadline_s:
                    raise LedgerError(
                        f"{self.path}: another process has kept its turn to write for "
                        f"{_TURN_TIMEOUT_S:g} s; is it stopped?"
                    ) from None
                time.sleep(_LOCK_PAUSE_S)
            else:
                return

    def _read_new(self) -> Sequence[RolloutRecord]:
        """Read from where we were to the end, and cut off a line that its writer left torn."""
        descriptor = self._open_descriptor()
        content = _read_from(descriptor, self._size)
        whole = content[: content.rfind(b"\n") + 1]
        records = _parse(whole, self.path, self._records)
        if len(whole) < len(content):
            os.ftruncate(descriptor, self._size + len(whole))
            os.fsync(descriptor)
        self._size += len(whole)
        for record in records:
            self._note(record)
        return records

    @property
    def records(self) -> Sequence[RolloutRecord]:
        """All records, in the order of writing: those of others as of our last turn."""
        return tuple(self._records)

    def finished_keys(self) -> frozenset[RolloutKey]:
        """The keys with a counted record; an error leaves its key open for another attempt."""
        return frozenset(self._finished)

    def next_attempt(self, key: RolloutKey) -> int:
        """The number that the next attempt at `key` carries: 1 for the first."""
        return self._attempts.get(key, 0) + 1

    def append(self, record: RolloutRecord) -> None:
        """Write one record and wait until it is on the disk; of a shared ledger, within a turn.

        Raises:
            LedgerError: the key has a counted record already, or the ledger is not open.
            OSError: the disk is full or broken; the ledger then ends with its last whole record.
        """
        descriptor = self._open_descriptor()
        assert self._has_turn or not self._shared, "a shared ledger is appended to within a turn"
        finished = self._finished.get(record.key)
        if record.outcome.counts and finished is not None:
            raise LedgerError(
                f"{self.path}: {record.key} has its outcome already ({finished.outcome}); "
                "a counted episode is recorded exactly once"
            )
        line = record.to_json().encode("ascii") + b"\n"
        try:
            written = os.write(descriptor, line)
            if written != len(line):
                raise OSError(errno.ENOSPC, "no room for a whole record", str(self.path))
            os.fsync(descriptor)
        except OSError:
            # Readers ignore a torn tail anyway; cutting it keeps a later append from joining it.
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, self._size)
            raise
        self._size += len(line)
        self._note(record)

    def _note(self, record: RolloutRecord) -> None:
        self._records.append(record)
        self._attempts[record.key] = max(self._attempts.get(record.key, 0), record.attempt)
        if record.outcome.counts:
            self._finished[record.key] = record

    def _open_descriptor(self) -> int:
        if self._descriptor is None:
            raise LedgerError(f"{self.path}: not open; use it in a with statement")
        return self._descriptor


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
        # Given back at once, for who comes to write. Two that ask in the same microseconds see
        # each other, and take that for a writer until they look again.
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError as error:
        # NFS locks for writing only what is open for writing, and of us it is not.
        if error.errno != errno.EBADF:
            raise
        return _is_held_by_one(descriptor)
    finally:
        os.close(descriptor)
    return False


def _is_held_by_one(descriptor: int) -> bool:
    """Whether a process holds the ledger that does not share it."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
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


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)


def _read_from(descriptor: int, offset: int) -> bytes:
    blocks = []
    while block := os.pread(descriptor, 1 << 20, offset):
        blocks.append(block)
        offset += len(block)
    return b"".join(blocks)


def _parse(content: bytes, path: Path, before: Sequence[RolloutRecord] = ()) -> list[RolloutRecord]:
    """The records of whole lines, which follow those that were read `before`."""
    records: list[RolloutRecord] = []
    counted_on_line = {
        record.key: number for number, record in enumerate(before, start=1) if record.outcome.counts
    }
    for number, line in enumerate(content.split(b"\n")[:-1], start=len(before) + 1):
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
