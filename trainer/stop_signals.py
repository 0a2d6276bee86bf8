"""Ctrl-C and SIGTERM, which end a training after the step that it is in."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Event, current_thread, main_thread
from types import FrameType


@contextmanager
def stop_on_signals() -> Iterator[Event]:
    """An event that the first Ctrl-C or SIGTERM sets; a second Ctrl-C interrupts at once."""
    stop = Event()
    if current_thread() is not main_thread():
        yield stop
        return

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        stop.set()
        signal.signal(signal.SIGINT, signal.default_int_handler)

    previous = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)
