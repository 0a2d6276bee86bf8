"""A simulator on a node of the cluster: an actor that runs a worker process of its own.

The worker is watched here as on any machine, so that a hang is found, and a death told, where it
happens; the node's own death is for whoever started the actor to see.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from sim_client.evaluation.episode import EpisodeReport, EpisodeRequest
from sim_client.evaluation.errors import EvaluationStoppedError
from sim_client.evaluation.interruption import Interruption
from sim_client.evaluation.worker import ServedPolicySettings
from sim_client.evaluation.worker_pool import WorkerPool


@dataclass(frozen=True, kw_only=True)
class SimulatorSettings:
    """serve, settings: a worker's whole life, as a Plan has them. tls_ca, token: what is in the
    files that its connection to the server needs; None where it needs none."""

    serve: Callable[[Connection, Any], None]
    settings: ServedPolicySettings
    stall_timeout_s: float
    tls_ca: bytes | None = None
    token: bytes | None = None


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of a request. files: what the episode left behind, by name.

    halt: why no episode can be run, instead of a report.
    """

    report: EpisodeReport | None = None
    files: Mapping[str, bytes] = field(default_factory=dict)
    halt: str | None = None


class Simulator:
    """An actor's methods; `run` in one thread and the others in another."""

    def __init__(self, settings: SimulatorSettings) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="assay-simulator-"))
        self._pool = WorkerPool(
            settings.serve,
            _with_local_files(settings, self._folder),
            num_workers=1,
            stall_timeout_s=settings.stall_timeout_s,
        )
        # Nobody sends an actor signals: only its end interrupts it.
        self._interruption = Interruption()

    def is_alive(self) -> bool:
        """Answered while an episode runs, too."""
        return True

    def run(self, request: EpisodeRequest) -> Attempt:
        """One episode, to its end; its files come along, since no disk needs to be shared."""
        folder = self._folder / "episode"
        shutil.rmtree(folder, ignore_errors=True)
        try:
            self._pool.submit(replace(request, folder=folder))
            ((_, report),) = self._pool.wait(self._interruption)
        except EvaluationStoppedError as error:
            return Attempt(halt=str(error))
        return Attempt(report=report, files=_files_in(folder))

    def close(self) -> None:
        """Before the actor is killed: its worker ends with it, its folder would not."""
        shutil.rmtree(self._folder, ignore_errors=True)


def _with_local_files(settings: SimulatorSettings, folder: Path) -> ServedPolicySettings:
    """The settings, with the connection's files where this machine has them."""
    connection = settings.settings.server
    for name, content in (("tls_ca", settings.tls_ca), ("token_file", settings.token)):
        if content is not None:
            path = folder / name
            path.touch(mode=0o600)
            path.write_bytes(content)
            connection = replace(connection, **{name: path})
    return replace(settings.settings, server=connection)


def _files_in(folder: Path) -> dict[str, bytes]:
    if not folder.is_dir():
        return {}
    return {
        path.name: path.read_bytes()
        for path in folder.iterdir()
        if path.is_file() and not path.is_symlink() and not path.name.startswith(".")
    }
