"""Starting `child.py` in the interpreter that has LBM Eval, and hearing what it says."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.worker_pool import exit_description

PROGRAM = Path(__file__).with_name("child.py")

# For a new process to import LBM Eval and Drake, from a cold disk too.
START_ALLOWANCE_S = 120.0

_CHUNK_BYTES = 65536


class ChildEndedError(RuntimeError):
    """The child has gone without an answer; the text says how it ended."""


class Child:
    """A run of child.py, in a process group of its own that is killed on leaving the `with`.

    A terminal's Ctrl-C does not reach it: what to do about that is its parent's business. log:
    the file that takes its output.
    """

    def __init__(
        self, python: Path, mode: str, *, log: Path, order: Mapping[str, Any] | None = None
    ) -> None:
        """Raises UsageError where `python` can't be started."""
        self._log = log
        self._unread = b""
        self._pipe, theirs = os.pipe()
        arguments = [str(python), str(PROGRAM), mode, str(theirs), str(os.getpid())]
        arguments += [] if order is None else [json.dumps(order)]
        try:
            with log.open("wb") as output:
                self._process = subprocess.Popen(
                    arguments,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    pass_fds=(theirs,),
                    start_new_session=True,
                )
        except OSError as error:
            os.close(self._pipe)
            if error.filename != str(python):
                raise
            raise UsageError(
                f"--lbm-eval-python {python}: can't be started: {error.strerror}; expected the "
                "Python of the environment that has LBM Eval, such as venv/bin/python"
            ) from error
        finally:
            os.close(theirs)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        # Whatever it started is in its group as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait()
        os.close(self._pipe)

    def next_message(self, *, timeout_s: float) -> dict[str, Any] | None:
        """What it says next; None if that is nothing within timeout_s.

        Raises ChildEndedError where it has ended.
        """
        deadline_s = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            remaining_s = max(0.0, deadline_s - time.monotonic())
            if not select.select([self._pipe], [], [], remaining_s)[0]:
                return None
            chunk = os.read(self._pipe, _CHUNK_BYTES)
            if not chunk:
                code = self._process.wait()
                raise ChildEndedError(f"{exit_description(code)}{self._last_words()}")
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def _last_words(self) -> str:
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        last = next((line.strip() for line in reversed(lines) if line.strip()), None)
        return f"; its last words: {last[:300]}" if last else ""
