"""Ctrl-C and SIGTERM as something to wait for, so that none of them cuts a write in two."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import threading
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import Any, Self

_SIGNALS = (signal.SIGINT, signal.SIGTERM)
_STANDARD_INPUT = 0


class Interruption:
    """While entered, SIGINT and SIGTERM set `requested` and make `readable` so; no exception.

    Signal handlers belong to the main thread; entered in another one this only never fires.
    """

    def __init__(self) -> None:
        self.requested = False
        self.readable, self._writer = socket.socketpair()
        self._writer.setblocking(False)
        self._previous: dict[signal.Signals, Any] = {}

    def __enter__(self) -> Self:
        if threading.current_thread() is threading.main_thread():
            self._previous = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self.readable.close()
        self._writer.close()

    def wait(self, timeout_s: float) -> None:
        """Until the interruption, but no longer than that."""
        select.select([self.readable], [], [], timeout_s)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.requested = True
        # A full buffer means that it is readable already.
        with contextlib.suppress(BlockingIOError):
            self._writer.send(b"\0")


@contextlib.contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """While entered, SIGTERM raises KeyboardInterrupt as SIGINT does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    previous = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, previous)


def end_with_input() -> None:
    """From now on the end of standard input is like SIGTERM to this process."""

    def read() -> None:
        # One that cannot be read, such as a closed one, has ended too.
        with contextlib.suppress(OSError):
            while os.read(_STANDARD_INPUT, 4096):
                pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=read, name="standard-input", daemon=True).start()
