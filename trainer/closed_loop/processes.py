"""Programs that run beside a training, and end with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import IO

from policy_interface.companion import begin_companion, end_companion


class ProcessesEndedError(RuntimeError):
    """What is to be started now comes too late."""


class Processes:
    """Those that one thread starts, and another may end at any time."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._running: set[subprocess.Popen[bytes]] = set()
        self._is_over = False

    @contextmanager
    def started(
        self, command: Sequence[str], *, output: IO[bytes] | int, errors: IO[bytes]
    ) -> Iterator[subprocess.Popen[bytes]]:
        """Runs until the block ends, at most.

        Raises OSError where it cannot be started, ProcessesEndedError after `end`.
        """
        with self._lock:
            if self._is_over:
                raise ProcessesEndedError(f"{command[0]}: not started, the training ends")
            process = begin_companion(command, output=output, errors=errors)
            self._running.add(process)
        try:
            yield process
        finally:
            end_companion(process)
            with self._lock:
                self._running.discard(process)

    def end(self) -> None:
        """All are told to end, and no more are started; whoever started them sees them out."""
        with self._lock:
            self._is_over = True
            for process in self._running:
                process.terminate()
