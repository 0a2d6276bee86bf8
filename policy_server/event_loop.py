"""The event loop that the server runs on.

uvloop where it is installed, as the extra `serve` does but on Windows: a step passes through the
loop a dozen times, and with it sixteen clients get a fifth more steps. Where it is not installed,
asyncio's own does the same, slower.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
import signal
from collections.abc import Coroutine
from typing import Any, TypeVar

_Result = TypeVar("_Result")

_HANDLED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run(main: Coroutine[Any, Any, _Result]) -> _Result:
    """As asyncio.run, in the main thread; signals are handled as before when it ends."""
    handlers = {number: signal.getsignal(number) or signal.SIG_DFL for number in _HANDLED}
    try:
        with asyncio.Runner(loop_factory=new_event_loop) as runner:
            return runner.run(main)
    finally:
        # A closed loop of uvloop goes on swallowing what it was asked to handle.
        for number, handler in handlers.items():
            signal.signal(number, handler)


def new_event_loop() -> asyncio.AbstractEventLoop:
    if importlib.util.find_spec("uvloop") is None:
        return asyncio.new_event_loop()
    return importlib.import_module("uvloop").new_event_loop()
