"""The server's life: bind, load, serve, drain."""

from __future__ import annotations

import asyncio
import dataclasses
import errno
import ipaddress
import logging
import os
import socket
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from policy_interface.codec import MAX_MESSAGE_BYTES
from policy_interface.contract import CONTRACT_KEY
from policy_interface.types import PolicyMetadata
from policy_server.batching import Batcher
from policy_server.health import HealthService
from policy_server.metrics import ServerMetrics
from policy_server.policy import Policy, require_policy, resolve_open_loop_steps
from policy_server.services import SERVICE_NAMES, Deployment, PolicyServices
from policy_server.sessions import SessionTable

logger = logging.getLogger(__name__)

_HEALTH_SERVICE = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name

# How long answers that are ready may take to leave for slow clients.
_FLUSH_S = 2.0


class AddressError(ValueError):
    """An address that is none, or that can't be listened on."""


class OptionError(ValueError):
    """A server option out of its range."""


@dataclass(frozen=True, kw_only=True)
class ServerOptions:
    """How to serve, whatever the policy.

    address: HOST:PORT; port 0 takes a free one. Nothing here asks who calls, so anything but
        loopback belongs behind a firewall.
    max_batch_size: the most episodes in one forward pass.
    open_loop_steps: actions executed before planning again; None takes the policy's own.
    name: what metadata calls the policy; None takes the policy's own.
    max_sessions: the most episodes remembered at a time.
    """

    address: str = "127.0.0.1:50051"
    max_batch_size: int = 16
    open_loop_steps: int | None = None
    name: str | None = None
    max_sessions: int = 1024

    def __post_init__(self) -> None:
        for option in ("max_batch_size", "max_sessions"):
            if getattr(self, option) < 1:
                raise OptionError(f"{option}: expected at least 1, got {getattr(self, option)}")
        split_address(self.address)


def split_address(address: str) -> tuple[str, int]:
    """HOST and PORT of HOST:PORT, a literal IPv6 host in brackets. Raises AddressError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise AddressError(f"address {address!r}: expected HOST:PORT, such as 127.0.0.1:50051")
    return host, int(port)


class PolicyServer:
    """One policy under one address. Made, and used, inside a running event loop."""

    def __init__(self, options: ServerOptions) -> None:
        self.options = options
        self.metrics = ServerMetrics()
        # One thread for the policy: policies need not be thread-safe, and loading in the
        # thread that plans keeps per-thread settings (OpenMP's, CUDA's) in force.
        self._worker = ThreadPoolExecutor(1, thread_name_prefix="policy")
        self._decoders = ThreadPoolExecutor(
            min(4, os.cpu_count() or 1), thread_name_prefix="decode"
        )
        self._health = HealthService(SERVICE_NAMES)
        self._services = PolicyServices(
            sessions=SessionTable(max_sessions=options.max_sessions),
            metrics=self.metrics,
            decoders=self._decoders,
        )
        self._grpc_server = grpc.aio.server(
            options=[
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                # Otherwise two servers may share a port, each with half of an episode's calls.
                ("grpc.so_reuseport", 0),
            ]
        )
        self._grpc_server.add_generic_rpc_handlers(tuple(self._services.handlers()))
        health_pb2_grpc.add_HealthServicer_to_server(self._health, self._grpc_server)
        reflection.enable_server_reflection(
            (*SERVICE_NAMES, _HEALTH_SERVICE, reflection.SERVICE_NAME), self._grpc_server
        )
        self._port: int | None = None
        self._deployment: Deployment | None = None
        self._is_loading = False

    @property
    def address(self) -> str:
        """HOST:PORT with the port that was bound."""
        assert self._port is not None, "start() comes first"
        return f"{split_address(self.options.address)[0]}:{self._port}"

    @property
    def metadata(self) -> PolicyMetadata:
        """What clients are told of the policy."""
        assert self._deployment is not None, "load() comes first"
        return self._deployment.metadata

    @property
    def open_loop_steps(self) -> int:
        """Actions executed before planning again."""
        assert self._deployment is not None, "load() comes first"
        return self._deployment.open_loop_steps

    @property
    def num_in_flight(self) -> int:
        """Calls that are being answered; health's and reflection's are not counted."""
        return self._services.num_in_flight

    @property
    def num_waiting(self) -> int:
        """Steps that wait for a forward pass to begin."""
        return 0 if self._deployment is None else self._deployment.batcher.num_waiting

    async def start(self) -> None:
        """Listen. Until `load` is done, health says NOT_SERVING. Raises AddressError."""
        host, port = split_address(self.options.address)
        if not all(ipaddress.ip_address(ip).is_loopback for ip in _require_free(host, port)):
            logger.warning(
                "listening on %s: there is no authentication, so keep it behind a firewall",
                self.options.address,
            )
        try:
            self._port = self._grpc_server.add_insecure_port(self.options.address)
        except RuntimeError as error:
            raise AddressError(f"cannot listen on {self.options.address}: {error}") from error
        await self._grpc_server.start()

    async def load(self, build: Callable[[], Policy]) -> None:
        """Make the policy, in its own thread, and serve it.

        Raises InvalidPolicyError for an object that is none, and whatever `build` raises.
        """
        loop = asyncio.get_running_loop()
        self._is_loading = True
        try:
            policy = await loop.run_in_executor(self._worker, build)
        finally:
            self._is_loading = False
        require_policy(policy)
        self._deployment = self._deploy(policy)
        self._services.open(self._deployment)
        self._health.set_serving()

    def _deploy(self, policy: Policy) -> Deployment:
        open_loop_steps = resolve_open_loop_steps(policy, self.options.open_loop_steps)
        metadata = policy.metadata
        return Deployment(
            contract=policy.contract,
            metadata=dataclasses.replace(
                metadata,
                name=self.options.name or metadata.name,
                runtime_information={
                    **metadata.runtime_information,
                    CONTRACT_KEY: policy.contract.to_json(),
                    "assay.open_loop_steps": str(open_loop_steps),
                    "assay.chunk_length": str(policy.chunk_length),
                    "assay.max_batch_size": str(self.options.max_batch_size),
                },
            ),
            open_loop_steps=open_loop_steps,
            num_observations=policy.num_observations,
            batcher=Batcher(
                policy,
                open_loop_steps=open_loop_steps,
                max_batch_size=self.options.max_batch_size,
                worker=self._worker,
                on_batch=self.metrics.add_batch,
            ),
        )

    async def drain(self, *, grace_s: float) -> bool:
        """Refuse new calls, let those under way finish, and stop.

        Returns whether everything ended within grace_s. Otherwise the policy's thread may still be
        at work, and Python would wait for it before it exits.
        """
        self._services.close()
        self._health.close()
        is_clean = not self._is_loading
        try:
            async with asyncio.timeout(grace_s):
                await self._services.wait_until_idle()
                if self._deployment is not None:
                    # A client that went away leaves its forward pass behind.
                    await self._deployment.batcher.wait_until_idle()
        except TimeoutError:
            is_clean = False
        await self._grpc_server.stop(_FLUSH_S if is_clean else 0)
        self._worker.shutdown(wait=is_clean, cancel_futures=True)
        self._decoders.shutdown(wait=is_clean, cancel_futures=True)
        if self._deployment is not None:
            logger.info("%s", self.metrics.summary())
        return is_clean


def _require_free(host: str, port: int) -> set[str]:
    """The host's IP addresses. Raises AddressError with the reason, which gRPC only logs."""
    try:
        candidates = socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise AddressError(f"cannot listen on {host}:{port}: {error}") from error
    failures = []
    for family, kind, protocol, _, socket_address in candidates:
        try:
            with socket.socket(family, kind, protocol) as probe:
                # As gRPC does: a port of connections that just ended is free.
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind(socket_address)
        except OSError as error:
            failures.append(error)
    in_use = [error for error in failures if error.errno == errno.EADDRINUSE]
    if in_use:
        raise AddressError(
            f"cannot listen on {host}:{port}: another program does already; "
            "stop it, or choose another --address (port 0 takes a free one)"
        )
    if len(failures) == len(candidates):
        raise AddressError(f"cannot listen on {host}:{port}: {failures[0].strerror}")
    return {str(socket_address[0]) for *_, socket_address in candidates}
