"""A Ray cluster for the time of an evaluation: connected to, and with policy servers on it.

Servers are reached by the nodes' own addresses, by TLS and with a token that only this evaluation
knows.
"""

from __future__ import annotations

import contextlib
import importlib
import secrets
import signal
import tempfile
import threading
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass, replace
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from sim_client.cluster.server import ServedAt, ServerActor
from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.errors import EvaluationStoppedError, UsageError
from sim_client.evaluation.ray_options import RayOptions

_GOODBYE_S = 10.0
# For a cluster that grows when it is asked to, and a checkpoint of many gigabytes.
_SERVER_START_S = 900.0


@dataclass(frozen=True, kw_only=True, eq=False)
class ClusterServer:
    """A policy server of ours, and where it serves."""

    actor: Any
    at: ServedAt

    def ended(self) -> Future[str]:
        """Done when it is no more: with its last words, or the error that Ray tells."""
        return self.actor.ended.remote().future()


class RayCluster:
    """Within its `with` block: Ray, and as many policy servers as were asked for.

    Raises UsageError on entering where there is no Ray or no room on it, and
    EvaluationStoppedError where a policy server does not come up.
    """

    def __init__(self, options: RayOptions) -> None:
        self.options = options
        self.token: str | None = None
        self.servers: list[ClusterServer] = []
        self.ray: Any = None
        self._server_actors: list[Any] = []
        self._stack = contextlib.ExitStack()

    def __enter__(self) -> Self:
        with contextlib.ExitStack() as stack:
            self.ray = stack.enter_context(_connected())
            self._require_room()
            if self.options.serve is not None:
                self.token = secrets.token_urlsafe(32)
                stack.callback(self._end_servers)
                starting = [self.begin_server() for _ in range(self.options.servers)]
                self.servers = [self._ready(*begun) for begun in starting]
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._stack.close()

    @contextlib.contextmanager
    def pointed_at(self, config: EvaluationConfig) -> Iterator[EvaluationConfig]:
        """The same evaluation, of the policy that is served here; for as long as entered."""
        if not self.servers:
            yield config
            return
        with tempfile.TemporaryDirectory(prefix="assay-token-") as folder:
            assert self.token is not None
            token_file = Path(folder) / "token"
            token_file.write_text(self.token)
            tls_ca = Path(folder) / "certificate.pem"
            at = self.servers[0].at
            tls_ca.write_bytes(at.certificate)
            yield replace(config, address=at.address, tls_ca=tls_ca, token_file=token_file)

    def begin_server(self) -> tuple[Any, Any]:
        """A policy server's actor, and Ray's reference of where it will serve."""
        actor_class = self.ray.remote(
            num_cpus=self.options.server_cpus,
            num_gpus=self.options.server_gpus,
            max_restarts=0,
            max_concurrency=2,
        )(ServerActor)
        target = str(self.options.serve)
        actor = actor_class.remote(target, self.options.serve_options, self.token)
        self._server_actors.append(actor)
        return actor, actor.start.remote()

    def _require_room(self) -> None:
        have = self.ray.cluster_resources()
        options = self.options
        wanted = {"CPU": options.cpus}
        if options.serve is not None:
            wanted["CPU"] += options.servers * options.server_cpus
            wanted["GPU"] = options.servers * options.server_gpus
        for name, number in wanted.items():
            if have.get(name, 0.0) < number:
                raise UsageError(
                    f"--executor ray: the cluster has {have.get(name, 0.0):g} {name}s, and the "
                    f"policy servers and one simulator need {number:g}; see --ray.cpus, "
                    "--ray.servers, --ray.server-cpus and --ray.server-gpus"
                )

    def _ready(self, actor: Any, starting: Any) -> ClusterServer:
        try:
            at = self.ray.get(starting, timeout=_SERVER_START_S)
        except self.ray.exceptions.GetTimeoutError:
            raise EvaluationStoppedError(
                f"no policy server came up on the cluster within {_SERVER_START_S:g} s: is there a "
                f"node with {self.options.server_gpus:g} free GPUs and "
                f"{self.options.server_cpus:g} CPUs?"
            ) from None
        except self.ray.exceptions.RayTaskError as error:
            raise EvaluationStoppedError(f"on the cluster: {error.cause}") from None
        except self.ray.exceptions.RayError as error:
            raise EvaluationStoppedError(f"on the cluster: {one_line(error)}") from None
        return ClusterServer(actor=actor, at=at)

    def _end_servers(self) -> None:
        closing = [actor.close.remote() for actor in self._server_actors]
        if closing:
            self.ray.wait(closing, num_returns=len(closing), timeout=_GOODBYE_S)
        for actor in self._server_actors:
            with contextlib.suppress(self.ray.exceptions.RayError):
                self.ray.kill(actor)
        self.servers = []


def one_line(error: BaseException) -> str:
    """What Ray says of a loss, which are paragraphs, by its first sentence."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0][:300] if lines else type(error).__name__


@contextlib.contextmanager
def _connected() -> Iterator[Any]:
    """Ray, as it is connected already, to the cluster of RAY_ADDRESS, or to a local one."""
    try:
        ray: Any = importlib.import_module("ray")
    except ImportError:
        raise UsageError(
            "--executor ray needs ray: pip install '.[ray]' in Assay's checkout"
        ) from None
    if ray.is_initialized():
        yield ray
        return
    with _own_signals():
        try:
            ray.init(log_to_driver=False, include_dashboard=False, configure_logging=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise UsageError(
                f"--executor ray: no cluster to connect to: {one_line(error)}; "
                "start one with ray start --head, or name it in RAY_ADDRESS"
            ) from error
    try:
        yield ray
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Ray installs a handler of its own for SIGTERM, which would end us in the middle of things."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
