"""Where the scenes of a running evaluation are drawn, told by the evaluation to who watches it."""

from __future__ import annotations

import contextlib
import json
import socket
from collections.abc import Iterator
from pathlib import Path

from step_analysis.atomic_file import write_atomically

_FILE_NAME = "live.json"
# On this machine, where a listening port answers at once.
_CONNECT_TIMEOUT_S = 1.0


@contextlib.contextmanager
def announced(folder: Path, *, first_port: int | None, num_workers: int) -> Iterator[None]:
    """While entered, the folder says on which ports workers draw. first_port: None if they don't.

    Raises OSError.
    """
    path = folder / _FILE_NAME
    if first_port is None:
        yield
        return
    write_atomically(path, json.dumps({"first_port": first_port, "num_workers": num_workers}))
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def live_pages(folder: Path) -> list[str]:
    """The pages that can be opened now; empty where none was announced."""
    try:
        told = json.loads((folder / _FILE_NAME).read_bytes())
        first, num_workers = int(told["first_port"]), int(told["num_workers"])
    except (OSError, ValueError, KeyError, TypeError):
        return []
    ports = range(first, min(first + num_workers, 65536))
    return [f"http://localhost:{port}" for port in ports if _listens(port)]


def _listens(port: int) -> bool:
    try:
        with socket.create_connection(("localhost", port), timeout=_CONNECT_TIMEOUT_S):
            return True
    except OSError:
        return False
