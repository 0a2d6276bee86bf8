"""The door from a container to the policy server."""

import socket
from pathlib import Path

import pytest

from sim_client.containers.relay import Relay


def connected(path: Path) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(10)
    client.connect(str(path))
    return client


@pytest.mark.parametrize("kind", ["tcp", "unix"])
def test_bytes_go_both_ways_and_an_end_is_passed_on(kind: str, tmp_path: Path) -> None:
    if kind == "tcp":
        server = socket.create_server(("127.0.0.1", 0))
        address = f"127.0.0.1:{server.getsockname()[1]}"
    else:
        server = socket.socket(socket.AF_UNIX)
        server.bind(str(tmp_path / "server.sock"))
        server.listen()
        address = f"unix:{tmp_path / 'server.sock'}"
    server.settimeout(10)
    with (
        server,
        Relay(tmp_path / "door.sock", address),
        connected(tmp_path / "door.sock") as client,
    ):
        there, _ = server.accept()
        with there:
            client.sendall(b"to the server")
            assert there.recv(100) == b"to the server"
            there.sendall(b"and back")
            assert client.recv(100) == b"and back"
        assert client.recv(1) == b""


def test_a_server_that_is_not_there_closes_the_connection(tmp_path: Path) -> None:
    door = tmp_path / "door.sock"
    with Relay(door, f"unix:{tmp_path / 'nobody.sock'}"), connected(door) as client:
        assert client.recv(1) == b""
    assert not door.exists()
