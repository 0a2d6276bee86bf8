"""A port of loopback that is nobody else's for as long as a test needs it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator


@contextlib.contextmanager
def held_port() -> Iterator[int]:
    """Who connects to it is refused, but while one of gRPC's servers listens there.

    The kernel may give anybody a port that is only looked up, or left between two servers. This one
    is bound and never listened on; gRPC's servers share it by SO_REUSEPORT.
    """
    with socket.socket() as holder:
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]
