"""Another program of the project, started by its command beside this one, and ended with it.

The packages do not load each other's code; the programs may well be of another installation.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import IO

_GOODBYE_S = 30.0
_READY_LINE = re.compile(r"\bat (\S+:\d+)")
_TAIL_BYTES = 65536


def find_program(name: str) -> str | None:
    """Its path, of this environment rather than of another; None where it is not installed."""
    beside = Path(sys.executable).parent / name
    return str(beside) if beside.exists() else shutil.which(name)


def begin_companion(
    command: Sequence[str], *, output: IO[bytes] | int, errors: IO[bytes]
) -> subprocess.Popen[bytes]:
    """Started with an open pipe as its input. Raises OSError where it cannot be.

    In a session of its own: Ctrl-C is for us, who then end it. If we are killed, its input ends,
    and with --while-input-open so does it.
    """
    return subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=output, stderr=errors, start_new_session=True
    )


def end_companion(process: subprocess.Popen[bytes]) -> None:
    """It is told to end, and after half a minute made to. Returns when it has."""
    process.terminate()
    try:
        process.wait(timeout=_GOODBYE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def ready_address(output: IO[bytes]) -> str | None:
    """HOST:PORT, as soon as a server says there that it serves; None where it ends without."""
    for line in output:
        match = _READY_LINE.search(line.decode("utf-8", "replace"))
        if match is not None:
            return match[1]
    return None


def last_line(text: bytes) -> str:
    """What a program said last."""
    said = [line.strip() for line in text.decode("utf-8", "replace").splitlines() if line.strip()]
    return said[-1] if said else "it said nothing"


def last_line_of(log: Path, begin: int = 0) -> str:
    """begin: where in the file it began to speak. Raises OSError."""
    with log.open("rb") as file:
        file.seek(max(begin, log.stat().st_size - _TAIL_BYTES))
        return last_line(file.read())
