"""One simulator in a container: its folders, what it says, and how it ends."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim_client.containers.engine import ContainerEnd, Engine
from sim_client.containers.messages import (
    CONTROL_SOCKET,
    EPISODE_FOLDER,
    LOG_FILE_NAME,
    POLICY_SOCKET,
    Lines,
)
from sim_client.evaluation.episode_files import adopt_files

_CHUNK_BYTES = 64 * 2**10
# A container that takes nothing out of its socket for so long takes nothing any more.
_SEND_TIMEOUT_S = 5.0


@dataclass(frozen=True, kw_only=True)
class User:
    """Whom a simulator runs as."""

    uid: int
    gid: int

    @property
    def is_another(self) -> bool:
        """Than who runs this process, whose the files of its episodes are to be."""
        return (self.uid, self.gid) != (os.getuid(), os.getgid())


class SimulatorContainer:
    """A container, from its start until its end has been seen.

    It is given two sockets and one folder, empty at the start of each episode: it can reach
    neither the ledger nor the files of another episode.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        private: Path,
        scratch: Path,
        policy_socket: Path,
        user: User,
        labels: Mapping[str, str],
        greeting: bytes,
    ) -> None:
        """private: a new folder of this simulator's for its socket. scratch: one on the disk of the
        results. greeting: what it is told first. Raises EvaluationStoppedError and OSError."""
        self.end: ContainerEnd | None = None
        self._scratch = scratch
        self._user = user
        self._unsent = greeting
        self._lines = Lines()
        self._connection: socket.socket | None = None
        private.mkdir()
        scratch.mkdir()
        if user.is_another:
            os.chown(scratch, user.uid, user.gid)
        control_path = private / CONTROL_SOCKET.name
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(control_path))
        control_path.chmod(0o666)
        self._listener.listen(1)
        self._ended, self._at_end = socket.socketpair()
        try:
            self._container = engine.start(
                mounts={
                    CONTROL_SOCKET: (control_path, False),
                    POLICY_SOCKET: (policy_socket, False),
                    EPISODE_FOLDER: (scratch, True),
                },
                user=f"{user.uid}:{user.gid}",
                labels=labels,
            )
        except BaseException:
            self._close_sockets()
            raise
        self._watcher = threading.Thread(target=self._watch, name="container", daemon=True)
        self._watcher.start()

    def _watch(self) -> None:
        self.end = self._container.wait()
        self._at_end.close()

    @property
    def name(self) -> str:
        return self._container.name

    @property
    def readables(self) -> Sequence[socket.socket]:
        """Something is to be taken, or the container has ended, when one of these is readable."""
        talking = self._listener if self._connection is None else self._connection
        return (self._ended, talking) if talking.fileno() >= 0 else (self._ended,)

    def take(self, ready: Sequence[Any]) -> list[dict[str, Any]]:
        """What it has said since. Raises FormatError for what no simulator of ours says."""
        if self._connection is None:
            if self._listener in ready:
                self._connection = self._listener.accept()[0]
                self._connection.settimeout(_SEND_TIMEOUT_S)
                self._listener.close()
                self.send(b"")
            return []
        if self._connection not in ready:
            return []
        data = b""
        with contextlib.suppress(OSError):
            data = self._connection.recv(_CHUNK_BYTES)
        if not data:
            # It is going; how, is told when it has gone.
            self._connection.close()
        return list(self._lines.feed(data))

    def send(self, line: bytes) -> None:
        """As soon as it listens. What one that has gone does not get, its end tells."""
        self._unsent += line
        if self._connection is None:
            return
        with contextlib.suppress(OSError):
            self._connection.sendall(self._unsent)
        self._unsent = b""

    def hand_over(self, folder: Path) -> None:
        """Give an episode's folder what the simulator has written, and make room for the next.

        Raises OSError.
        """
        adopt_files(self._scratch, folder, (LOG_FILE_NAME,))
        if self._user.is_another:
            for path in folder.iterdir():
                os.chown(path, os.getuid(), os.getgid(), follow_symlinks=False)
        for left in self._scratch.iterdir():
            _remove(left)

    def let_go(self) -> None:
        """It has nothing to do any more, and ends by itself."""
        self._close_sockets()

    def kill(self) -> None:
        self._container.kill()

    def await_end(self, *, timeout_s: float) -> bool:
        """Whether it has ended, within that time."""
        self._watcher.join(timeout=max(0.0, timeout_s))
        return self.end is not None

    def close(self) -> None:
        """After its end."""
        self._close_sockets()
        self._ended.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _close_sockets(self) -> None:
        self._listener.close()
        if self._connection is not None:
            self._connection.close()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
