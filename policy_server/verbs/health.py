"""`policy-server health`."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

from policy_interface.client import PolicyClient
from policy_interface.client_errors import PolicyServerError
from policy_interface.client_options import ClientCredentials, ClientOptionError
from policy_server.address import split_address
from policy_server.server import OptionError

# Without --wait: time enough for a busy machine, and less than a container's check may take.
_HEALTH_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Health:
    """Ask a policy server whether it is ready: exit code 0 if it is, 1 if not.

    Example: policy-server health --address 127.0.0.1:50051 --wait 60
    """

    address: str = "127.0.0.1:50051"
    """HOST:PORT of the server."""
    tls_ca: Path | None = None
    """PEM file of the authority to trust, where the server speaks TLS."""
    tls_certificate: Path | None = None
    """PEM file of a certificate to show, where the server asks for one; with --tls-key."""
    tls_key: Path | None = None
    """PEM file of its key."""
    wait: float = 0.0
    """Seconds to wait for it to become ready."""

    def run(self) -> int:
        """Ask; the exit code."""
        split_address(self.address)
        if self.wait < 0:
            raise OptionError(f"--wait: expected seconds, 0 or more, got {self.wait}")
        try:
            client = PolicyClient(self.address, credentials=self._credentials())
        except ClientOptionError as error:
            raise OptionError(str(error)) from error
        with client:
            try:
                client.wait_until_serving(timeout_s=self.wait or _HEALTH_TIMEOUT_S)
            except PolicyServerError as error:
                print(f"policy-server: not serving: {error}", file=sys.stderr)
                return 1
        print(f"{self.address} is serving")
        return 0

    def _credentials(self) -> ClientCredentials | None:
        # No token: health is open to all.
        if self.tls_ca is None and self.tls_certificate is None and self.tls_key is None:
            return None
        return ClientCredentials(
            root_certificates=self.tls_ca, certificate=self.tls_certificate, key=self.tls_key
        )
