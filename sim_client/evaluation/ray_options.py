"""What simulators and policy servers on a Ray cluster are given."""

from __future__ import annotations

import math
import shlex
from dataclasses import dataclass
from pathlib import Path

from sim_client.evaluation.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class RayOptions:
    """Simulators as actors on the cluster of RAY_ADDRESS, with --executor ray."""

    cpus: float = 1.0
    """CPUs that Ray sets aside for a simulator; it computes in one thread."""
    serve: Path | None = None
    """Checkpoint to serve on the cluster too, under a path that its nodes see; otherwise --address
    must be one that they reach."""
    servers: int = 1
    """Policy servers, with --ray.serve; simulators are spread evenly over them."""
    server_gpus: float = 0.0
    """GPUs of each; without any, it serves on the CPU."""
    server_cpus: float = 1.0
    """CPUs that Ray sets aside for each."""
    server_options: str = ""
    """More options of policy-server serve, such as '--max-batch-size 32 --precision bfloat16'."""

    def __post_init__(self) -> None:
        for name in ("cpus", "server_cpus", "server_gpus"):
            value = getattr(self, name)
            if not 0 <= value < math.inf:
                raise UsageError(f"--ray.{name.replace('_', '-')}: expected 0 or more, got {value}")
        if self.cpus == 0:
            raise UsageError(
                "--ray.cpus: expected more than 0, or a node would get every simulator"
            )
        if self.servers < 1:
            raise UsageError(f"--ray.servers: expected at least 1, got {self.servers}")
        if self.serve is None and (self.servers, self.server_options) != (1, ""):
            raise UsageError("--ray.servers, --ray.server-options: only with --ray.serve")
        try:
            shlex.split(self.server_options)
        except ValueError as error:
            raise UsageError(f"--ray.server-options {self.server_options!r}: {error}") from error

    @property
    def serve_options(self) -> list[str]:
        """What each policy server's command ends with."""
        device = ["--device", "cuda"] if self.server_gpus else []
        return [*device, *shlex.split(self.server_options)]
