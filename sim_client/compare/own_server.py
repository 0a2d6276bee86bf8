"""A policy-server for the checkpoints of a comparison, for as long as it lasts.

Another program, started by its command: the simulator knows neither torch nor the server's code.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from sim_client.evaluation.errors import EvaluationStoppedError, UsageError

PROGRAM = "policy-server"
LOG_FILE_NAME = "policy_server.log"

_READY_LINE = re.compile(r"\bat (\S+:\d+)")
_GOODBYE_S = 30.0


@contextlib.contextmanager
def own_server(checkpoints: Sequence[Path], *, options: Sequence[str], log: Path) -> Iterator[str]:
    """While entered, one server serves all of them on a free loopback port: its address.

    The checkpoint at place i is served under `served_name(i)`. What the server says goes to `log`.

    Raises:
        UsageError: the program is not installed.
        EvaluationStoppedError: it ended before it was ready; with its own last words.
    """
    targets = [f"{served_name(place)}={path}" for place, path in enumerate(checkpoints)]
    command = [_program(), "serve", *targets, "--address", "127.0.0.1:0", "--while-input-open"]
    command += options
    with log.open("ab") as log_file:
        begin = log_file.tell()
        # In a session of its own: Ctrl-C is for the comparison, which then ends the server. If we
        # are killed, the other end of its input is closed, and it ends by itself.
        server = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log_file,
            start_new_session=True,
        )
    try:
        assert server.stdout is not None
        address = _ready_at(server.stdout)
        if address is None:
            server.wait()
            raise EvaluationStoppedError(
                f"{PROGRAM} ended with exit code {server.returncode} before it was ready: "
                f"{_last_line(log, begin)} (its log: {log})"
            )
        yield address
    finally:
        server.terminate()
        try:
            server.wait(timeout=_GOODBYE_S)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()
        for pipe in (server.stdin, server.stdout):
            if pipe is not None:
                pipe.close()


def served_name(place: int) -> str:
    """What the server calls the checkpoint at this place."""
    return f"policy{place}"


def _program() -> str:
    beside = Path(sys.executable).parent / PROGRAM
    found = str(beside) if beside.exists() else shutil.which(PROGRAM)
    if found is None:
        raise UsageError(
            f"{PROGRAM} is not installed here, and a checkpoint needs it: "
            "pip install 'assay[serve]', or serve the checkpoints elsewhere and name HOST:PORT"
        )
    return found


def _ready_at(output: IO[bytes]) -> str | None:
    for line in output:
        match = _READY_LINE.search(line.decode("utf-8", "replace"))
        if match is not None:
            return match[1]
    return None


def _last_line(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode("utf-8", "replace").splitlines()
    said = [line.strip() for line in lines if line.strip()]
    return said[-1] if said else "it said nothing"
