"""Starting a worker process that ends with its parent, and leaves signals to it."""

from __future__ import annotations

import faulthandler
import multiprocessing
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from typing import Any

# gRPC and Drake both keep threads; forking a process that runs them is undefined.
_CONTEXT = multiprocessing.get_context("spawn")

_SIGNALS = frozenset({signal.SIGINT, signal.SIGTERM})

# Mesa's software renderer and linear algebra would each start a thread a core in every worker.
_ONE_THREAD_EACH = ("LP_NUM_THREADS", "OMP_NUM_THREADS")


def start_worker(
    target: Callable[[Connection, Any], None], settings: Any, *, name: str
) -> tuple[BaseProcess, Connection]:
    """Start `target(connection, settings)` in a new process; the process and our end of the pipe.

    The worker's end is closed here, so that the pipe ends when the worker does. `target` should
    call `become_worker` first.
    """
    ours, theirs = _CONTEXT.Pipe(duplex=True)
    process = _CONTEXT.Process(target=target, args=(theirs, settings), name=name, daemon=True)
    with _one_thread_each(), _signals_blocked():
        process.start()
    theirs.close()
    return process, ours


def become_worker() -> None:
    """Ignore Ctrl-C and SIGTERM, and end with the parent even in the middle of a step.

    Ctrl-C reaches the whole process group; only the parent knows what to do with it. A crash in a
    library says on standard error where Python was: the ledger keeps no more than the signal.
    """
    # Without a standard error (`2>&-`) there is nobody to tell.
    if sys.stderr is not None:
        faulthandler.enable()
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


@contextmanager
def _signals_blocked() -> Iterator[None]:
    """So that a Ctrl-C finds no child that is still importing and would print a traceback."""
    previous = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, previous)


@contextmanager
def _one_thread_each() -> Iterator[None]:
    """Through the environment, since libraries read it when they are loaded."""
    added = [name for name in _ONE_THREAD_EACH if name not in os.environ]
    os.environ.update(dict.fromkeys(added, "1"))
    try:
        yield
    finally:
        for name in added:
            del os.environ[name]
