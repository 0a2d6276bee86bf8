"""Where the policy is, and how to speak with it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from policy_interface.client import PolicyClient


@dataclass(frozen=True, kw_only=True)
class ServerConnection:
    """A server's address and what it asks for, as a worker process can be told.

    policy: which of the server's policies; None for its first. tls_ca: PEM file of the authority
    to trust; None for a plaintext connection. token_file: what calls bear; None for nothing.
    server_name: that the server's certificate is for, where that is not the address's host.
    """

    address: str
    policy: str | None = None
    tls_ca: Path | None = None
    token_file: Path | None = None
    timeout_s: float = 60.0
    server_name: str | None = None

    def open(self) -> PolicyClient:
        """Raises ClientOptionError for a file that cannot be used."""
        # Here, not above: `--help` answers without loading gRPC.
        from policy_interface.client import PolicyClient
        from policy_interface.client_options import ClientCredentials

        credentials = None
        if self.tls_ca is not None or self.token_file is not None:
            credentials = ClientCredentials(
                root_certificates=self.tls_ca,
                token_file=self.token_file,
                server_name=self.server_name,
            )
        return PolicyClient(
            self.address, timeout_s=self.timeout_s, policy=self.policy, credentials=credentials
        )
