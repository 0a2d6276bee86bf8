"""What a conversion has done so far, on disk, so that it goes on after whatever ended it.

DESTINATION/.conversion/plan.json        what is converted and how; another plan is refused
DESTINATION/.conversion/episodes.jsonl   a line an episode, whole or left out; fsynced
DESTINATION/.conversion/lock             held while a conversion runs
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import IO, Any

from trainer.atomic_file import atomic_file, remove_partial_files, sync
from trainer.data.errors import DataError
from trainer.data.formats.writer import LEDGER_FOLDER, Receipt


class ConversionLedger:
    """receipts, left_out: by index in the source."""

    def __init__(self, file: IO[bytes], path: Path) -> None:
        self._file = file
        self.receipts: dict[int, Receipt] = {}
        self.left_out: dict[int, str] = {}
        self._load(path)

    def add_receipt(self, receipt: Receipt) -> None:
        self.receipts[receipt.index] = receipt
        self._append({"receipt": asdict(receipt)})

    def add_left_out(self, index: int, reason: str) -> None:
        self.left_out[index] = reason
        self._append({"left_out": reason, "index": index})

    def forget(self, index: int) -> None:
        """Of an episode whose files are gone; the next receipt counts."""
        del self.receipts[index]

    def _append(self, line: Mapping[str, Any]) -> None:
        self._file.write(json.dumps(line).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def _load(self, path: Path) -> None:
        whole = 0
        for number, line in enumerate(path.read_bytes().splitlines(keepends=True), 1):
            if not line.endswith(b"\n"):
                # The process was killed, or the disk full, in the middle of this line.
                break
            try:
                self._remember(json.loads(line))
            except (KeyError, TypeError, ValueError) as error:
                raise DataError(f"line {number} is corrupt: {error!r}", where=path) from error
            whole += len(line)
        self._file.truncate(whole)
        self._file.seek(whole)

    def _remember(self, told: Mapping[str, Any]) -> None:
        if "receipt" in told:
            receipt = Receipt(**told["receipt"])
            self.receipts[receipt.index] = receipt
        else:
            self.left_out[told["index"]] = told["left_out"]


@contextmanager
def open_ledger(destination: Path, plan: Mapping[str, Any]) -> Iterator[ConversionLedger]:
    """Begin a conversion in an empty folder, or go on with the same one.

    Raises DataError where the folder holds anything else, or a conversion runs in it already.
    """
    folder = destination / LEDGER_FOLDER
    if destination.exists() and not destination.is_dir():
        raise DataError("expected a folder to write to, got a file", where=destination)
    if destination.is_dir() and not folder.is_dir() and any(destination.iterdir()):
        raise DataError(
            "holds files that are no conversion of ours; give an empty folder or a new one",
            where=destination,
        )
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("ab") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise DataError(
                "another conversion is running in this folder", where=destination
            ) from error
        remove_partial_files(folder)
        _keep_plan(folder / "plan.json", plan, destination)
        path = folder / "episodes.jsonl"
        path.touch()
        sync(folder)
        with path.open("r+b") as file:
            yield ConversionLedger(file, path)


def _keep_plan(path: Path, plan: Mapping[str, Any], destination: Path) -> None:
    wanted = json.loads(json.dumps(plan))
    if not path.exists():
        with atomic_file(path) as file:
            file.write(json.dumps(wanted, indent=2).encode() + b"\n")
        return
    try:
        kept = json.loads(path.read_bytes())
        differing = [
            f"{name}: it has {kept.get(name)!r}, this is {wanted.get(name)!r}"
            for name in sorted({*kept, *wanted})
            if kept.get(name) != wanted.get(name)
        ]
    except (ValueError, TypeError, AttributeError) as error:
        raise DataError(f"corrupt: {error}", where=path) from error
    if differing:
        raise DataError(
            f"holds another conversion; give another folder, or the same options. "
            f"{'; '.join(differing)}",
            where=destination,
        )
