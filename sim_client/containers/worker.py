"""The program in a simulator's container: `python3 -m sim_client.containers.worker`.

It has two ways out of its container, both Unix sockets that are mounted into it: to the executor
that started it, and to the policy server. It ends when the executor does, however that ends, even
in the middle of a control step.
"""

from __future__ import annotations

import os
import queue
import signal
import socket
import sys
import tempfile
import threading
from pathlib import Path
from typing import Any

from sim_client.containers.messages import (
    CONTROL_SOCKET,
    EPISODE_FOLDER,
    LOG_FILE_NAME,
    Hello,
    Lines,
    message_line,
    request_from,
    settings_from,
)
from sim_client.evaluation.episode import EpisodeRequest
from sim_client.evaluation.simulator_facts import versions_here
from sim_client.evaluation.worker import Ended, Halt, Heartbeat, WorkerSettings, serve_requests

_CHUNK_BYTES = 64 * 2**10


class ControlChannel:
    """The executor's end of it is `sim_client.containers.simulator`."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._received: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        threading.Thread(target=self._receive, name="end-with-executor", daemon=True).start()

    def send(self, message: Hello | Heartbeat | Halt | Ended, /) -> None:
        self._connection.sendall(message_line(message))

    def recv(self) -> EpisodeRequest:
        request = request_from(self._received.get()["episode"])
        _log_into(EPISODE_FOLDER / LOG_FILE_NAME)
        return request

    def settings(self) -> WorkerSettings:
        """What the executor says first."""
        told = self._received.get()
        # In memory, and nobody else's.
        private = Path(tempfile.mkdtemp())
        paths = {"tls_ca": private / "tls_ca.pem", "token": private / "token"}
        for name, path in paths.items():
            if told[name] is not None:
                path.write_text(told[name], "utf-8")
        return settings_from(told["settings"], tls_ca=paths["tls_ca"], token_file=paths["token"])

    def _receive(self) -> None:
        lines = Lines()
        while data := self._connection.recv(_CHUNK_BYTES):
            for value in lines.feed(data):
                self._received.put(value)
        # Whoever wanted the episode's outcome is gone.
        os._exit(0)


def _log_into(path: Path) -> None:
    """From now on all that is printed goes there, by libraries in C++ too."""
    sys.stdout.flush()
    sys.stderr.flush()
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(descriptor, 1)
    os.dup2(descriptor, 2)
    os.close(descriptor)


def main() -> None:
    # The first process of a container gets no signal that it has not asked for.
    signal.signal(signal.SIGTERM, lambda number, frame: os._exit(128 + signal.SIGTERM))
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(str(CONTROL_SOCKET))
    channel = ControlChannel(connection)
    channel.send(Hello(versions=versions_here()))
    serve_requests(channel, channel.settings())


if __name__ == "__main__":
    main()
