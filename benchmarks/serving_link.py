"""JPEG against raw pixels over a slow link; prints one line of JSON.

    sudo .venv/bin/python benchmarks/serving_link.py
    sudo .venv/bin/python benchmarks/serving_link.py --mbit 100 --clients 1 16

A pair of virtual Ethernet devices joins two network namespaces, one with the server and one with
its clients, and tc (tbf) holds both ends to the link's rate. Our client encodes each observation
and reads each action within the measured time, and the server decodes. Both encodings take turns.
Needs Linux, root, ip and tc (iproute2).
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Any

from policy_server.bench.load import LoadError
from policy_server.bench.own_server import started

_PROGRAM = [sys.executable, "-m", "policy_server.command_line"]
_NAME = re.compile(r"assay-link-(\d+)-(server|client)")

# What testing standards set aside for benchmarks (RFC 2544); nobody's own network.
_SERVER_IP, _CLIENT_IP = "198.18.57.1", "198.18.57.2"
_PORT = 50051

# How much may leave at once, and how long it may wait for its turn, as a small switch does.
_BURST = "32kb"
_MAX_WAIT = "100ms"

_GOAL = 2.0


class LinkError(RuntimeError):
    """No such link can be made here."""


@dataclass(frozen=True, kw_only=True)
class Link:
    """The names of the two namespaces."""

    server: str
    client: str


@contextlib.contextmanager
def slow_link(mbit: float) -> Iterator[Link]:
    """Raises LinkError where that takes rights or programs that are not there."""
    _require_means()
    _remove_stale()
    link = Link(
        server=f"assay-link-{os.getpid()}-server", client=f"assay-link-{os.getpid()}-client"
    )
    try:
        for namespace in (link.server, link.client):
            _ip("netns", "add", namespace)
        # Made where they belong: device names of this machine are left alone.
        _ip(
            *("-n", link.server, "link", "add", "link0", "type", "veth"),
            *("peer", "name", "link0", "netns", link.client),
        )
        for namespace, address in ((link.server, _SERVER_IP), (link.client, _CLIENT_IP)):
            _ip("-n", namespace, "address", "add", f"{address}/30", "dev", "link0")
            _ip("-n", namespace, "link", "set", "link0", "up")
            _command(
                *("tc", "-n", namespace, "qdisc", "add", "dev", "link0", "root", "tbf"),
                *("rate", f"{mbit:g}mbit", "burst", _BURST, "latency", _MAX_WAIT),
            )
        yield link
    finally:
        for namespace in (link.server, link.client):
            _remove(namespace)


def _require_means() -> None:
    missing = [program for program in ("ip", "tc") if shutil.which(program) is None]
    if missing:
        raise LinkError(f"needs {' and '.join(missing)}, which iproute2 installs on Linux")
    if os.geteuid() != 0:
        raise LinkError("needs root, to make network namespaces; use sudo")


def _remove_stale() -> None:
    """What a run that was killed has left."""
    for name in _command("ip", "netns", "list").splitlines():
        found = _NAME.match(name)
        if found is not None and not Path(f"/proc/{found[1]}").exists():
            _remove(found[0])


def _remove(namespace: str) -> None:
    command = ["ip", "netns", "delete", namespace]
    subprocess.run(command, capture_output=True, check=False)


def _ip(*arguments: str) -> str:
    return _command("ip", *arguments)


def _command(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LinkError(f"{' '.join(command)} failed: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout


def _in_namespace(namespace: str, *command: str) -> list[str]:
    return ["ip", "netns", "exec", namespace, *command]


def _figures(link: Link, encoding: str, num_clients: int, arguments: Any) -> dict[str, Any]:
    command = _in_namespace(
        link.client,
        *(*_PROGRAM, "bench", "--address", f"{_SERVER_IP}:{_PORT}", "--json", "--encode"),
        *("--encoding", encoding, "--quality", str(arguments.quality)),
        *("--clients", str(num_clients), "--seconds", str(arguments.seconds)),
        *("--cameras", str(arguments.cameras), "--size", arguments.size),
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise LoadError(done.stderr.strip())
    figures = json.loads(done.stdout)
    if figures["errors"]:
        raise LoadError(f"{encoding}: {figures['errors']}")
    return figures


def _measure(link: Link, arguments: argparse.Namespace) -> dict[str, Any]:
    server = _in_namespace(
        link.server, *_PROGRAM, "serve", "null", "--address", f"{_SERVER_IP}:{_PORT}"
    )
    results: dict[str, Any] = {}
    with started(server):
        for num_clients in arguments.clients:
            rounds: dict[str, list[dict[str, Any]]] = {"raw": [], "jpeg": []}
            for _ in range(arguments.rounds):
                for encoding, figures in rounds.items():
                    figures.append(_figures(link, encoding, num_clients, arguments))
            ratios = [
                jpeg["steps_per_s"] / raw["steps_per_s"]
                for raw, jpeg in zip(rounds["raw"], rounds["jpeg"], strict=True)
            ]
            ratio = statistics.median(ratios)
            result: dict[str, Any] = {
                "jpeg_over_raw_steps_per_s": round(ratio, 2),
                "goal": f">= {_GOAL:g}",
                "met": ratio >= _GOAL,
            }
            for encoding, figures in rounds.items():
                result[encoding] = {
                    name: round(statistics.median(each[name] for each in figures), 2)
                    for name in ("steps_per_s", "p50_ms", "p95_ms", "sent_bytes_per_s")
                }
            results[f"{num_clients}_clients"] = result
    return results


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--mbit", type=float, default=100.0, help="the link's rate")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--size", default="224x224")
    parser.add_argument("--quality", type=int, default=95, help="of JPEG")
    parser.add_argument("--seconds", type=float, default=4.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=3)
    arguments = parser.parse_args()
    try:
        with slow_link(arguments.mbit) as link:
            results = _measure(link, arguments)
    except LinkError as error:
        print(f"serving_link.py: {error}", file=sys.stderr)
        return 2
    except LoadError as error:
        print(f"serving_link.py: {error}", file=sys.stderr)
        return 1
    environment = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "mbit_per_s": arguments.mbit,
        "cameras": arguments.cameras,
        "size": arguments.size,
        "quality": arguments.quality,
    }
    print(json.dumps(environment | results))
    return 0


if __name__ == "__main__":
    sys.exit(main())
