"""A policy-server for a comparison's checkpoints, or a cluster's, for as long as it lasts.

Another program, started by its command: the simulator knows neither torch nor the server's code.
"""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from policy_interface.companion import (
    begin_companion,
    end_companion,
    find_program,
    last_line_of,
    ready_address,
)
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError

PROGRAM = "policy-server"
LOG_FILE_NAME = "policy_server.log"


@dataclass(frozen=True, kw_only=True)
class RunningServer:
    """A policy-server that has said that it serves, at `address`, HOST:PORT."""

    address: str
    process: subprocess.Popen[bytes]
    log: Path
    log_begin: int

    def wait(self) -> str:
        """Return when it has ended: with what exit code, and its own last words."""
        self.process.wait()
        return (
            f"{PROGRAM} ended with exit code {self.process.returncode}: "
            f"{last_line_of(self.log, self.log_begin)}"
        )


@contextlib.contextmanager
def own_server(checkpoints: Sequence[Path], *, options: Sequence[str], log: Path) -> Iterator[str]:
    """While entered, one server serves all of them on a free loopback port: its address.

    The checkpoint at place i is served under `served_name(i)`. Raises as `started_server`.
    """
    targets = [f"{served_name(place)}={path}" for place, path in enumerate(checkpoints)]
    with started_server(targets, address="127.0.0.1:0", options=options, log=log) as server:
        yield server.address


@contextlib.contextmanager
def started_server(
    targets: Sequence[str], *, address: str, options: Sequence[str], log: Path
) -> Iterator[RunningServer]:
    """While entered, one server serves the targets. What it says goes to `log`.

    Raises:
        UsageError: the program is not installed.
        EvaluationStoppedError: it ended before it was ready; with its own last words.
    """
    command = [_program(), "serve", *targets, "--address", address, "--while-input-open"]
    command += options
    with log.open("ab") as log_file:
        begin = log_file.tell()
        server = begin_companion(command, output=subprocess.PIPE, errors=log_file)
    try:
        assert server.stdout is not None
        ready_at = ready_address(server.stdout)
        if ready_at is None:
            server.wait()
            raise EvaluationStoppedError(
                f"{PROGRAM} ended with exit code {server.returncode} before it was ready: "
                f"{last_line_of(log, begin)} (its log: {log})"
            )
        yield RunningServer(address=ready_at, process=server, log=log, log_begin=begin)
    finally:
        end_companion(server)


def served_name(place: int) -> str:
    """What the server calls the checkpoint at this place."""
    return f"policy{place}"


def _program() -> str:
    found = find_program(PROGRAM)
    if found is None:
        raise UsageError(
            f"{PROGRAM} is not installed here, and a checkpoint needs it: "
            "pip install '.[serve]' in Assay's checkout, or serve the checkpoints elsewhere and "
            "name HOST:PORT"
        )
    return found
