"""`policy-server bench`."""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

from policy_interface.client import PolicyClient
from policy_interface.client_errors import PolicyServerError
from policy_interface.client_options import ClientCredentials, ClientOptionError
from policy_interface.contract import ContractError, ImageSize
from policy_interface.images import DEFAULT_JPEG_QUALITY, Encoding
from policy_interface.usage import UsageError
from policy_server.address import split_address
from policy_server.bench.load import Load, LoadError
from policy_server.bench.own_server import own_server
from policy_server.bench.processes import measure

_OK, _FAILED = 0, 1

# Time enough for a busy server to say so; one that is still loading is not to be measured.
_SERVING_TIMEOUT_S = 2.0


@dataclass(frozen=True, kw_only=True)
class Bench:
    """Measure what a policy server carries: latencies, steps and bytes a second, errors.

    Example: policy-server bench --address 127.0.0.1:50051 --clients 16 --cameras 4 --size 224x224

    With --null or --sleep-ms it starts a server of its own, so that any two machines can be
    compared: policy-server bench --sleep-ms 20 --chunk-length 8 --json
    """

    address: str | None = None
    """HOST:PORT of the server."""
    clients: int = 16
    """Episodes at a time, each on a connection of its own."""
    cameras: int = 4
    """RGB images in each observation."""
    size: str = "224x224"
    """WIDTHxHEIGHT of each."""
    encoding: Encoding = "raw"
    """How images travel."""
    quality: int = DEFAULT_JPEG_QUALITY
    """Of JPEG, 1 to 100."""
    encode: bool = False
    """Encode each observation, and read each action, within the measured time, as a robot does;
    otherwise requests are made before."""
    seconds: float = 5.0
    """How long to measure, after a few steps of each client to warm up."""
    open_loop: float | None = None
    """Steps a second of each client: they leave on schedule, and latencies count from then. By
    default each step follows the answer to the one before."""
    stream: bool = False
    """Make each episode one stream (ours) rather than a call a step (LBM Eval's wire)."""
    chunk: bool = False
    """Ask for the rest of the chunk with each action."""
    null: bool = False
    """Start a server with a policy that answers at once."""
    sleep_ms: float | None = None
    """Start a server with a policy that takes so long for a batch of any size."""
    chunk_length: int = 1
    """With --null or --sleep-ms: actions that are executed of each plan."""
    tls_ca: Path | None = None
    """PEM file of the authority to trust; calls are then encrypted."""
    token_file: Path | None = None
    """File of the token to send."""
    processes: int = 1
    """Among which the clients are divided; more than one pays where the load's own core is full."""
    json: bool = False
    """Print one line of JSON."""

    def run(self) -> int:
        """Measure and print; the exit code."""
        if (self.address is not None) + self.null + (self.sleep_ms is not None) != 1:
            raise UsageError("give one of --address, --null and --sleep-ms")
        if self.chunk_length != 1 and self.address is not None:
            raise UsageError("--chunk-length goes with --null or --sleep-ms")
        load = self._load()
        with self._server() as address:
            load = replace(load, address=address)
            try:
                with PolicyClient(address, credentials=load.credentials) as client:
                    client.wait_until_serving(timeout_s=_SERVING_TIMEOUT_S)
                measurement = measure(load)
            except (PolicyServerError, LoadError) as error:
                print(f"policy-server: {error}", file=sys.stderr)
                return _FAILED
        if self.json:
            print(json.dumps(self._described(load) | measurement.figures()))
        else:
            print(measurement.text())
        return _OK if measurement.num_steps else _FAILED

    @contextlib.contextmanager
    def _server(self) -> Iterator[str]:
        """The address of the one to measure."""
        if self.address is not None:
            yield self.address
            return
        target = "null" if self.sleep_ms is None else f"sleep:{self.sleep_ms:g}"
        with own_server(f"{target}:{self.chunk_length}") as server:
            yield server.address

    def _load(self) -> Load:
        """Raises UsageError and AddressError."""
        if self.address is not None:
            split_address(self.address)
        credentials = None
        if self.tls_ca is not None or self.token_file is not None:
            credentials = ClientCredentials(
                root_certificates=self.tls_ca, token_file=self.token_file
            )
        try:
            if credentials is not None:
                credentials.bearer_token()
            return Load(
                address=self.address or "",
                num_clients=self.clients,
                num_processes=self.processes,
                num_cameras=self.cameras,
                size=ImageSize.parse(self.size),
                encoding=self.encoding,
                quality=self.quality,
                encodes=self.encode,
                rate_hz=self.open_loop,
                streams=self.stream,
                wants_chunk=self.chunk,
                seconds=self.seconds,
                credentials=credentials,
            )
        except (ClientOptionError, ContractError, LoadError) as error:
            raise UsageError(str(error)) from error

    def _described(self, load: Load) -> dict[str, Any]:
        """What was measured, and where."""
        return {
            "date": time.strftime("%Y-%m-%d"),
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "grpcio": metadata.version("grpcio"),
            "server": load.address if self.address is not None else "own",
            "policy_sleep_ms": self.sleep_ms,
            "chunk_length": None if self.address is not None else self.chunk_length,
            "clients": load.num_clients,
            "processes": load.num_processes,
            "cameras": load.num_cameras,
            "size": str(load.size),
            "encoding": load.encoding,
            "quality": load.quality if load.encoding == "jpeg" else None,
            "encodes": load.encodes,
            "open_loop_hz": load.rate_hz,
            "stream": load.streams,
            "chunk": load.wants_chunk,
            "seconds": load.seconds,
        }
