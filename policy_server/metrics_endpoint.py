"""The page that Prometheus and `policy-server top` read, over HTTP."""

from __future__ import annotations

import logging
import threading
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

from prometheus_client import CollectorRegistry
from prometheus_client.exposition import choose_encoder

from policy_server.address import listening_socket, split_address

logger = logging.getLogger(__name__)

PATH = "/metrics"

# What a client may take to send its request, or to take the answer.
_TIMEOUT_S = 5.0
# How long `close` may take to be noticed.
_CLOSE_S = 0.1


class MetricsEndpoint:
    """`/metrics` at an address of its own, in threads of its own, until `close`.

    As text, or as OpenMetrics for those who ask for that. Nothing here asks who reads it.
    """

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        """address: HOST:PORT; port 0 takes a free one. Raises AddressError."""
        host, _ = split_address(address)
        self._server = _Server(address, registry)
        self.address = f"{host}:{self._server.server_port}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(_CLOSE_S,), name="metrics", daemon=True
        )
        self._thread.start()

    def close(self) -> None:
        """Stop listening; a page that is being sent may still arrive."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def __enter__(self) -> MetricsEndpoint:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, address: str, registry: CollectorRegistry) -> None:
        self.registry = registry
        listener = listening_socket(address, option="--metrics-address")
        name = listener.getsockname()
        # HTTPServer's own binding would ask DNS for this machine's name.
        super().__init__(name[:2], _Page, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        self.server_port = int(name[1])

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A reader that went away is nobody's error."""
        logger.debug("a page of metrics was not taken", exc_info=True)


class _Page(BaseHTTPRequestHandler):
    timeout = _TIMEOUT_S
    server: _Server  # pyright: ignore[reportIncompatibleVariableOverride]

    def do_GET(self) -> None:
        if self.path.partition("?")[0] != PATH:
            self.send_error(HTTPStatus.NOT_FOUND, explain=f"the metrics are at {PATH}")
            return
        encode, content_type = choose_encoder(self.headers.get("Accept", ""))
        page = encode(self.server.registry)
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        logger.debug("%s asked for metrics: " + format, self.address_string(), *args)
