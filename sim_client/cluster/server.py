"""A policy server on a node of the cluster: an actor that runs `policy-server` as a program."""

from __future__ import annotations

import contextlib
import importlib
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sim_client.compare.own_server import RunningServer, started_server
from sim_client.evaluation.errors import EvaluationStoppedError


@dataclass(frozen=True, kw_only=True)
class ServedAt:
    """HOST:PORT, and the certificate, as PEM, that whoever connects there must trust."""

    address: str
    certificate: bytes


class ServerActor:
    """An actor's methods; `ended` in one thread and the others in another.

    target: a checkpoint's folder, as policy-server takes it. token: what calls must bear, since
    whoever reaches the node's address could ask for plans otherwise; so calls are encrypted, too,
    by a certificate made for the occasion.
    """

    def __init__(self, target: str, options: Sequence[str], token: str) -> None:
        self._target = target
        self._options = list(options)
        self._folder = Path(tempfile.mkdtemp(prefix="assay-policy-server-"))
        self._token_file = self._folder / "token"
        self._token_file.touch(mode=0o600)
        self._token_file.write_text(token)
        self._stack = contextlib.ExitStack()
        self._server: RunningServer | None = None

    def start(self) -> ServedAt:
        """Serve on a free port of this node's own address.

        Raises EvaluationStoppedError where it does not come up.
        """
        host = _own_host()
        certificate, key = self._folder / "certificate.pem", self._folder / "key.pem"
        try:
            _make_certificate(host, certificate, key)
            self._server = self._stack.enter_context(
                started_server(
                    [self._target],
                    address=f"{host}:0",
                    options=[
                        *("--token-file", str(self._token_file)),
                        *("--tls-certificate", str(certificate), "--tls-key", str(key)),
                        *self._options,
                    ],
                    log=self._folder / "log",
                )
            )
        except EvaluationStoppedError:
            self.close()
            raise
        return ServedAt(address=self._server.address, certificate=certificate.read_bytes())

    def ended(self) -> str:
        """Return when the server has ended: how, in its own last words."""
        assert self._server is not None
        return self._server.wait()

    def close(self) -> None:
        """End the server, if it has not, and leave nothing behind."""
        self._stack.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def _make_certificate(host: str, certificate: Path, key: Path) -> None:
    """One that vouches for itself, for the node's address. Raises EvaluationStoppedError."""
    program = shutil.which("openssl")
    if program is None:
        raise EvaluationStoppedError(
            "the node of a policy server has no openssl, which makes its certificate: install it, "
            "or serve the checkpoint yourself and name --address"
        )
    key.touch(mode=0o600)
    command = [program, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "30"]
    command += ["-subj", "/CN=assay", "-addext", f"subjectAltName=IP:{host}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    made = subprocess.run(command, capture_output=True, text=True, check=False)
    if made.returncode:
        raise EvaluationStoppedError(f"openssl made no certificate: {made.stderr.strip()[-200:]}")


def _own_host() -> str:
    """This node's address, as the others reach it."""
    ray: Any = importlib.import_module("ray")
    return ray.util.get_node_ip_address()
