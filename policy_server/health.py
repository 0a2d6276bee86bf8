"""grpc.health.v1, truthful: NOT_SERVING while the policy loads and while the server drains."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_Response = health_pb2.HealthCheckResponse


class HealthService(health_pb2_grpc.HealthServicer):
    """One status for the whole server ("") and for each of its services.

    grpcio-health-checking's own servicer leaves `Watch` streams open when it shuts down, and a
    server that waits for its calls to end would wait for those in vain.
    """

    def __init__(self, service_names: Iterable[str]) -> None:
        self._known = frozenset({"", *service_names})
        self._is_serving = False
        self._is_closed = False
        self._changed = asyncio.Event()

    @property
    def is_serving(self) -> bool:
        return self._is_serving

    def set_serving(self) -> None:
        self._is_serving = True
        self._announce()

    def set_not_serving(self) -> None:
        """For a while: a policy is being loaded anew."""
        self._is_serving = False
        self._announce()

    def close(self) -> None:
        """NOT_SERVING for good: watchers are told, and their streams end."""
        self._is_serving = False
        self._is_closed = True
        self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    def _status(self) -> Any:
        return _Response.SERVING if self._is_serving else _Response.NOT_SERVING

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> health_pb2.HealthCheckResponse:
        if request.service not in self._known:
            await context.abort(
                grpc.StatusCode.NOT_FOUND,
                f"unknown service {request.service!r}; expected one of {sorted(self._known)}",
            )
        return _Response(status=self._status())

    async def Watch(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext
    ) -> AsyncIterator[health_pb2.HealthCheckResponse]:
        is_known = request.service in self._known
        while True:
            # Taken before the status is read, so that no change falls between the two.
            changed = self._changed
            yield _Response(status=self._status() if is_known else _Response.SERVICE_UNKNOWN)
            if self._is_closed:
                return
            await changed.wait()
