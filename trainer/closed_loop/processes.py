"""Programs that run beside a training, and end with it."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import IO, Any

_GOODBYE_S = 30.0


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
            # In a session of its own: Ctrl-C is for us, who then end it. If we are killed, the
            # other end of its input is closed, and it ends by itself.
            process = subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=errors,
                start_new_session=True,
            )
            self._running.add(process)
        try:
            yield process
        finally:
            _end(process)
            with self._lock:
                self._running.discard(process)

    def end(self) -> None:
        """All are told to end, and no more are started; whoever started them sees them out."""
        with self._lock:
            self._is_over = True
            for process in self._running:
                process.terminate()


def _end(process: subprocess.Popen[Any]) -> None:
    process.terminate()
    try:
        process.wait(timeout=_GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()
