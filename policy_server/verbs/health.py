"""`policy-server health`."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from policy_interface.client import PolicyClient, PolicyServerError
from policy_server.server import OptionError, split_address

# Without --wait: time enough for a busy machine, and less than a container's check may take.
_HEALTH_TIMEOUT_S = 3.0


@dataclass(frozen=True, kw_only=True)
class Health:
    """Ask a policy server whether it is ready: exit code 0 if it is, 1 if not.

    Example: policy-server health --address 127.0.0.1:50051 --wait 60
    """

    address: str = "127.0.0.1:50051"
    """HOST:PORT of the server."""
    wait: float = 0.0
    """Seconds to wait for it to become ready."""

    def run(self) -> int:
        """Ask; the exit code."""
        split_address(self.address)
        if self.wait < 0:
            raise OptionError(f"--wait: expected seconds, 0 or more, got {self.wait}")
        with PolicyClient(self.address) as client:
            try:
                client.wait_until_serving(timeout_s=self.wait or _HEALTH_TIMEOUT_S)
            except PolicyServerError as error:
                print(f"policy-server: not serving: {error}", file=sys.stderr)
                return 1
        print(f"{self.address} is serving")
        return 0
