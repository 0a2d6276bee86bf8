"""A policy server in a process of its own, for as long as a load takes."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from policy_server.bench.load import LoadError

_READY = re.compile(r"^serving .* at (\S+) \(")
_STOP_TIMEOUT_S = 20.0


@dataclass(frozen=True, kw_only=True)
class OwnServer:
    """address: HOST:PORT on loopback. pid: of its process."""

    address: str
    pid: int


@contextmanager
def own_server(target: str, options: Sequence[str] = ()) -> Iterator[OwnServer]:
    """`policy-server serve TARGET` on a free port of loopback, stopped at the end.

    Raises LoadError where it does not come up.
    """
    command = [sys.executable, "-m", "policy_server.command_line", "serve", target]
    with started([*command, "--address", "127.0.0.1:0", *options]) as server:
        yield server


@contextmanager
def started(command: Sequence[str]) -> Iterator[OwnServer]:
    """A program that prints "serving ... at HOST:PORT (..." once it does, stopped at the end.

    Raises LoadError where it does not come up.
    """
    with (
        tempfile.TemporaryFile() as log,
        subprocess.Popen(
            [*ending_with_us(), *command], stdout=subprocess.PIPE, stderr=log, text=True
        ) as process,
    ):
        try:
            assert process.stdout is not None
            ready = _READY.match(process.stdout.readline())
            if ready is None:
                process.kill()
                process.wait()
                log.seek(0)
                told = log.read().decode(errors="replace").strip()
                raise LoadError(f"{' '.join(command)} did not come up: {told}")
            yield OwnServer(address=ready[1], pid=process.pid)
        finally:
            _stop(process)


def ending_with_us() -> list[str]:
    """What to start a program with so that it ends should this process be killed."""
    setpriv = shutil.which("setpriv")
    return [] if setpriv is None else [setpriv, "--pdeathsig", "TERM", "--"]


def _stop(process: subprocess.Popen[str]) -> None:
    process.terminate()
    try:
        process.wait(_STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        process.kill()
