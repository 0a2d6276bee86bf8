"""Serving the dashboard until it is stopped."""

import ipaddress
import socket
from collections.abc import Callable, Sequence

import uvicorn
from starlette.applications import Starlette

from step_analysis.dashboard.app import Dashboard, application
from step_analysis.usage import UsageError

_GRACE_S = 1
"""For answers on their way when one stops; pages that are kept up to date would never end."""


class DashboardServer(uvicorn.Server):
    """A server that ends the streams of what is new before it waits for answers on their way, and
    ends where no answers can be made.

    Args:
        app: the application of `dashboard`.
    """

    def __init__(self, app: Starlette, dashboard: Dashboard) -> None:
        config = uvicorn.Config(
            app,
            # The same one everywhere, whether uvloop is installed or not.
            loop="asyncio",
            log_level="warning",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            timeout_graceful_shutdown=_GRACE_S,
            limit_concurrency=256,
        )
        super().__init__(config)
        self._dashboard = dashboard
        dashboard.on_failure = self._end

    def _end(self) -> None:
        self.should_exit = True

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Stop."""
        self._dashboard.stop()
        await super().shutdown(sockets)


def is_loopback(host: str) -> bool:
    """Whether only this machine reaches what listens there."""
    if host.lower() == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def serve(
    dashboard: Dashboard,
    *,
    host: str,
    port: int,
    allowed_hosts: Sequence[str],
    token: str | None,
    announce: Callable[[str], None],
) -> None:
    """Serve until SIGINT or SIGTERM. `announce` gets the address once it is bound.

    Raises:
        UsageError: the address can't be bound.
        ImportError: something that the pages need is not installed.
    """
    listener = _listen(host, port)
    bound_port = listener.getsockname()[1]
    name = f"[{host}]" if ":" in host else host
    address = f"http://{name}:{bound_port}/"
    if token is not None:
        address += f"?token={token}"
    app = application(dashboard, hosts=[host, *allowed_hosts], token=token)
    announce(address)
    with listener:
        DashboardServer(app, dashboard).run(sockets=[listener])
    if dashboard.failure is not None:
        raise dashboard.failure


def _listen(host: str, port: int) -> socket.socket:
    try:
        family, kind, protocol, _, place = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(place)
        listener.listen(128)
    except OSError as error:
        raise UsageError(f"--host {host} --port {port}: {error.strerror or error}") from error
    return listener
