"""Ports of loopback that are nobody else's for as long as a test needs them."""

from __future__ import annotations

import contextlib
import random
import socket
from collections.abc import Iterator
from pathlib import Path

_GIVEN_BY_THE_KERNEL = Path("/proc/sys/net/ipv4/ip_local_port_range")


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


def quiet_port() -> int:
    """A free one, for a program that listens there later: the kernel gives it to nobody unasked."""
    first_given = int(_GIVEN_BY_THE_KERNEL.read_text().split()[0])
    while True:
        port = random.randrange(10_000, first_given)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port
