"""A worker process that runs the episodes of several policies, one after another."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass
from multiprocessing.connection import Connection

from policy_interface.client import PolicyClient
from sim_client.evaluation.episode import EpisodeRequest
from sim_client.evaluation.worker import (
    EpisodeWorker,
    ServedPolicySettings,
    StationKeeper,
    WorkerSettings,
)
from sim_client.evaluation.worker_process import become_worker
from sim_client.lbm_eval.worker import LbmEvalSettings, LbmEvalWorker


@dataclass(frozen=True, kw_only=True)
class ComparisonSettings:
    """What a worker needs to know, by the policy that a request names."""

    policies: Mapping[str, ServedPolicySettings]


def serve_comparison(connection: Connection, settings: ComparisonSettings) -> None:
    """The worker's whole life."""
    become_worker()
    workers: dict[str, EpisodeWorker | LbmEvalWorker] = {}
    stations = StationKeeper()
    try:
        with contextlib.ExitStack() as clients:
            while not any(worker.is_spent for worker in workers.values()):
                request: EpisodeRequest = connection.recv()
                if request.policy not in workers:
                    own = settings.policies[request.policy]
                    client = clients.enter_context(own.server.open())
                    workers[request.policy] = _worker(connection, own, client, stations)
                workers[request.policy].serve(request)
    except (EOFError, ConnectionError):
        # The parent has closed the pipe, or is gone: nobody is left to tell.
        return


def _worker(
    connection: Connection,
    settings: ServedPolicySettings,
    client: PolicyClient,
    stations: StationKeeper,
) -> EpisodeWorker | LbmEvalWorker:
    if isinstance(settings, LbmEvalSettings):
        return LbmEvalWorker(connection, settings, client)
    assert isinstance(settings, WorkerSettings)
    return EpisodeWorker(connection, settings, client, stations)
