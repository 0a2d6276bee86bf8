"""HOST:PORT, taken apart and probed."""

from __future__ import annotations

import errno
import socket
from collections.abc import Sequence
from typing import Any


class AddressError(ValueError):
    """An address that is none, or that can't be listened on."""


def split_address(address: str) -> tuple[str, int]:
    """HOST and PORT of HOST:PORT, a literal IPv6 host in brackets. Raises AddressError."""
    host, colon, port = address.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) <= 65535):
        raise AddressError(f"address {address!r}: expected HOST:PORT, such as 127.0.0.1:50051")
    return host, int(port)


def require_free(address: str, *, option: str = "--address") -> set[str]:
    """The IP addresses of HOST. Raises AddressError with the reason why none can be listened on.

    option: what the error advises to change.
    """
    candidates = _resolved(address)
    failures = []
    for candidate in candidates:
        try:
            _bound(candidate).close()
        except OSError as error:
            failures.append(error)
    # Half of a name's addresses is not enough: its clients would reach two programs.
    if len(failures) == len(candidates) or any(map(_is_in_use, failures)):
        raise _listening_error(address, failures, option)
    return {str(socket_address[0]) for *_, socket_address in candidates}


def listening_socket(address: str, *, option: str) -> socket.socket:
    """A TCP socket at the first of HOST's addresses that can be had. Raises AddressError."""
    failures = []
    for candidate in _resolved(address):
        try:
            listener = _bound(candidate)
            listener.listen()
        except OSError as error:
            failures.append(error)
        else:
            return listener
    raise _listening_error(address, failures, option)


def _resolved(address: str) -> list[tuple[Any, ...]]:
    host, port = split_address(address)
    try:
        return [*socket.getaddrinfo(host.strip("[]"), port, type=socket.SOCK_STREAM)]
    except (OSError, UnicodeError) as error:
        raise AddressError(f"cannot listen on {address}: {error}") from error


def _bound(candidate: tuple[Any, ...]) -> socket.socket:
    family, kind, protocol, _, socket_address = candidate
    bound = socket.socket(family, kind, protocol)
    try:
        # As gRPC does: a port of connections that just ended is free.
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(socket_address)
    except OSError:
        bound.close()
        raise
    return bound


def _is_in_use(error: OSError) -> bool:
    return error.errno == errno.EADDRINUSE


def _listening_error(address: str, failures: Sequence[OSError], option: str) -> AddressError:
    if any(map(_is_in_use, failures)):
        return AddressError(
            f"cannot listen on {address}: another program does already; "
            f"stop it, or choose another {option} (port 0 takes a free one)"
        )
    return AddressError(f"cannot listen on {address}: {failures[0].strerror}")
