"""The server's life: bind, load, serve, drain."""

from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import logging
import os
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from policy_interface.codec import MAX_MESSAGE_BYTES
from policy_interface.types import PolicyMetadata
from policy_server.address import AddressError, require_free, split_address
from policy_server.batching import Replica
from policy_server.deployments import Deployment, DeploymentOptions, Deployments
from policy_server.episodes import Episodes
from policy_server.execution import Strategy
from policy_server.health import HealthService
from policy_server.metrics import ServerMetrics
from policy_server.policy import InvalidPolicyError, Policy, require_policy
from policy_server.rate_limit import RateLimiter
from policy_server.security import BearerTokens, TlsOptions, TokenInterceptor
from policy_server.services import SERVICE_NAMES, PolicyServices

logger = logging.getLogger(__name__)

_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

# How long answers that are ready may take to leave for slow clients.
_FLUSH_S = 2.0

# An observation is large and comes at once: without these, gRPC cuts it into frames of 16 KiB, each
# read and accounted for by itself, behind a window that begins small. They are worth a sixth of the
# throughput with four raw cameras (benchmarks/serving.py).
_TRANSPORT_OPTIONS = (
    ("grpc.http2.max_frame_size", 4 * 1024 * 1024),
    ("grpc.http2.lookahead_bytes", 8 * 1024 * 1024),
    ("grpc.http2.bdp_probe", 0),
    # A robot that lost its power leaves its connection open; ask it whether it is there.
    ("grpc.keepalive_time_ms", 30_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    # Otherwise two servers may share a port, each with half of an episode's calls.
    ("grpc.so_reuseport", 0),
)

Build = Callable[[], Policy]


class OptionError(ValueError):
    """A server option out of its range."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to serve, whatever the policy.

    address: HOST:PORT; port 0 takes a free one.
    max_batch_size: the most episodes in one forward pass.
    replicas: copies of each policy, each in a thread of its own: so many forward passes at a time.
    max_wait_ms: how long the first request of a batch may wait for others that are expected. It
        never waits for longer than a forward pass takes.
    max_queue: the most plans that may wait; over it, steps are refused.
    execution, open_loop_steps, planned_latency_steps: see policy_server.execution; open_loop_steps
        None takes the policy's own.
    name: what metadata calls a policy served alone; None takes its own.
    max_sessions: the most episodes remembered at a time. idle_s: an episode unused for longer ends.
    max_message_bytes: of one call, either way.
    max_calls_per_s: of one client; None for no limit.
    tls: None for plain text. tokens: what calls must bear; None for none.
    """

    address: str = "127.0.0.1:50051"
    max_batch_size: int = 16
    replicas: int = 1
    max_wait_ms: float = 50.0
    max_queue: int = 256
    execution: Strategy = "receding"
    open_loop_steps: int | None = None
    planned_latency_steps: int = 0
    name: str | None = None
    max_sessions: int = 1024
    idle_s: float = 3600.0
    max_message_bytes: int = MAX_MESSAGE_BYTES
    max_calls_per_s: float | None = None
    tls: TlsOptions | None = None
    tokens: BearerTokens | None = field(default=None, compare=False)

    def __post_init__(self) -> None:
        for option, least in (
            ("max_batch_size", 1),
            ("replicas", 1),
            ("max_sessions", 1),
            ("max_queue", 1),
            ("max_message_bytes", 1024),
            ("max_wait_ms", 0),
            ("planned_latency_steps", 0),
        ):
            if not getattr(self, option) >= least:
                raise OptionError(
                    f"{option}: expected at least {least}, got {getattr(self, option)}"
                )
        for option in ("idle_s", "max_calls_per_s"):
            value = getattr(self, option)
            if value is not None and not value > 0:
                raise OptionError(f"{option}: expected more than 0, got {value}")
        split_address(self.address)

    @property
    def deployment(self) -> DeploymentOptions:
        return DeploymentOptions(
            strategy=self.execution,
            open_loop_steps=self.open_loop_steps,
            planned_latency_steps=self.planned_latency_steps,
            max_batch_size=self.max_batch_size,
            max_wait_s=self.max_wait_ms / 1e3,
            max_waiting=self.max_queue,
        )


class PolicyServer:
    """One or more policies under one address. Made, and used, inside a running event loop."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.metrics = ServerMetrics(max_batch_size=options.max_batch_size)
        self._decoders = ThreadPoolExecutor(
            min(4, os.cpu_count() or 1), thread_name_prefix="decode"
        )
        self._health = HealthService(SERVICE_NAMES)
        self._deployments = Deployments()
        self._episodes = Episodes(
            max_sessions=options.max_sessions,
            idle_s=options.idle_s,
            metrics=self.metrics,
            decoders=self._decoders,
        )
        self._services = PolicyServices(
            deployments=self._deployments,
            episodes=self._episodes,
            metrics=self.metrics,
            limiter=None
            if options.max_calls_per_s is None
            else RateLimiter(
                max_calls_per_s=options.max_calls_per_s,
                # A second's worth at once: steps come in bursts where chunks are executed.
                burst=max(1, round(options.max_calls_per_s)),
            ),
        )
        self._grpc_server = grpc.aio.server(
            interceptors=()
            if options.tokens is None
            else (TokenInterceptor(options.tokens, on_refused=self.metrics.refused),),
            options=[
                ("grpc.max_send_message_length", options.max_message_bytes),
                ("grpc.max_receive_message_length", options.max_message_bytes),
                *_TRANSPORT_OPTIONS,
            ],
        )
        self._grpc_server.add_generic_rpc_handlers(tuple(self._services.handlers()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc_server)
        reflection.enable_server_reflection(
            (*SERVICE_NAMES, _HEALTH_SERVICE, reflection.SERVICE_NAME), self._grpc_server
        )
        self.metrics.bind_gauges(
            sessions=lambda: self.num_sessions,
            queue_depth=lambda: self.num_waiting,
            in_flight=lambda: self.num_in_flight,
        )
        self._port: int | None = None
        self._num_loading = 0
        self._is_draining = False

    @property
    def address(self) -> str:
        """HOST:PORT with the port that was bound."""
        assert self._port is not None, "start() comes first"
        return f"{split_address(self.options.address)[0]}:{self._port}"

    @property
    def policies(self) -> list[Deployment]:
        """What is served to new episodes, the default first."""
        return self._deployments.current

    @property
    def metadata(self) -> PolicyMetadata:
        """What clients are told of the default policy."""
        assert self._deployments.current, "load() comes first"
        return self._deployments.find("").metadata

    @property
    def num_in_flight(self) -> int:
        """Calls that are being answered; health's and reflection's are not counted."""
        return self._services.num_in_flight

    @property
    def num_waiting(self) -> int:
        """Steps that wait for a forward pass to begin."""
        return sum(deployment.batcher.num_waiting for deployment in self._deployments.all)

    @property
    def num_sessions(self) -> int:
        """Episodes that are remembered."""
        return len(self._episodes)

    async def start(self) -> None:
        """Listen. Until `load` is done, health says NOT_SERVING. Raises AddressError."""
        ips = require_free(self.options.address)
        is_loopback = all(ipaddress.ip_address(ip).is_loopback for ip in ips)
        if not is_loopback and (self.options.tls is None or self.options.tokens is None):
            logger.warning(
                "listening on %s without %s: keep it behind a firewall",
                self.options.address,
                "TLS" if self.options.tls is None else "tokens",
            )
        try:
            if self.options.tls is None:
                self._port = self._grpc_server.add_insecure_port(self.options.address)
            else:
                self._port = self._grpc_server.add_secure_port(
                    self.options.address, self.options.tls.credentials()
                )
        except RuntimeError as error:
            raise AddressError(f"cannot listen on {self.options.address}: {error}") from error
        await self._grpc_server.start()

    async def load(self, build: Build | Mapping[str | None, Build]) -> None:
        """Make the policies, each copy in its own thread, and serve them, the first by default.

        build: one policy, or several by name. Raises InvalidPolicyError for an object that is
        none, and whatever `build` raises.
        """
        builds = build if isinstance(build, Mapping) else {self.options.name: build}
        for deployment in await self._all_made(builds.items()):
            self._deployments.put(deployment)
        self._services.open()
        self._health.set_serving()

    async def reload(self, build: Build | Mapping[str, Build]) -> None:
        """Replace policies for the episodes to come; those under way end with the old ones.

        build: the default policy, or several by name. Raises as `load`, and then all of the old
        ones stay; health says NOT_SERVING meanwhile. Old and new ones are in memory at once.
        """
        builds = build if isinstance(build, Mapping) else {self._deployments.find("").name: build}
        self._health.set_not_serving()
        try:
            for deployment in await self._all_made(builds.items()):
                self._deployments.put(deployment)
                self.metrics.policy_reloaded(deployment.name)
                logger.info("reloaded %s", deployment.name)
        finally:
            if not self._num_loading and not self._is_draining:
                self._health.set_serving()

    async def _all_made(self, builds: Iterable[tuple[str | None, Build]]) -> list[Deployment]:
        """All of them, or what making one of them raised, and none."""
        made: list[Deployment] = []
        with contextlib.ExitStack() as undoing:
            for name, build in builds:
                made.append(await self._made(name, build))
                undoing.callback(made[-1].shutdown, wait=False)
            names = [deployment.name for deployment in made]
            if len(set(names)) < len(names):
                raise InvalidPolicyError(
                    f"policies of one server need different names, got {names}"
                )
            undoing.pop_all()
        return made

    async def _made(self, name: str | None, build: Build) -> Deployment:
        # A thread a copy: policies need not be thread-safe, and loading in the thread that plans
        # keeps per-thread settings (OpenMP's, CUDA's) in force.
        workers = [
            ThreadPoolExecutor(1, thread_name_prefix="policy") for _ in range(self.options.replicas)
        ]
        self._num_loading += 1
        try:
            replicas = []
            for worker in workers:
                policy = await asyncio.get_running_loop().run_in_executor(worker, build)
                require_policy(policy)
                replicas.append(Replica(policy=policy, worker=worker))
            return Deployment(
                replicas,
                name=name,
                options=self.options.deployment,
                on_batch=self.metrics.batch_done,
            )
        except BaseException:
            for worker in workers:
                worker.shutdown(wait=False, cancel_futures=True)
            raise
        finally:
            self._num_loading -= 1

    async def drain(self, *, grace_s: float) -> bool:
        """Refuse new calls, let those under way finish, and stop.

        Returns whether everything ended within grace_s. Otherwise a policy's thread may still be
        at work, and Python would wait for it before it exits.
        """
        self._is_draining = True
        self._services.close()
        self._health.close()
        is_clean = not self._num_loading
        try:
            async with asyncio.timeout(grace_s):
                await self._services.wait_until_idle()
                for deployment in self._deployments.all:
                    # A client that went away leaves its forward pass behind.
                    await deployment.batcher.wait_until_idle()
        except TimeoutError:
            is_clean = False
        await self._grpc_server.stop(_FLUSH_S if is_clean else 0)
        self._episodes.end_all()
        for deployment in self._deployments.all:
            deployment.shutdown(wait=is_clean)
        self._decoders.shutdown(wait=is_clean, cancel_futures=True)
        if self._deployments.current:
            logger.info("%s", self.metrics.summary())
        return is_clean
