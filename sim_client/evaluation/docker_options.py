"""What simulators in containers are started from, and how much they may use."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sim_client.evaluation.errors import UsageError

_UNITS = {"": 1, "b": 1, "k": 2**10, "m": 2**20, "g": 2**30}
# What the engine itself asks for, so that a container can start at all.
_MIN_MEMORY_BYTES = 6 * 2**20


@dataclass(frozen=True, kw_only=True)
class DockerOptions:
    """Each simulator's container, with --executor docker."""

    image: str = "assay-simulator"
    """Image of the simulator, as `docker compose build` makes it; it is never pulled."""
    cpus: float = 1.0
    """Processors that one simulator may use; it computes in one thread."""
    memory: str = "4g"
    """Memory that one simulator may use, such as 800m or 4g; one that needs more is ended."""

    def __post_init__(self) -> None:
        if not self.image or self.image.startswith("-") or not self.image.isprintable():
            raise UsageError(f"--docker.image {self.image!r}: expected NAME[:TAG] or NAME@DIGEST")
        if not 0.01 <= self.cpus <= 4096:
            raise UsageError(f"--docker.cpus: expected 0.01 or more processors, got {self.cpus:g}")
        if self.memory_bytes < _MIN_MEMORY_BYTES:
            raise UsageError(f"--docker.memory: expected at least 6m, got {self.memory}")

    @property
    def memory_bytes(self) -> int:
        match = re.fullmatch(r"([0-9]{1,15})([bkmg]?)", self.memory.lower())
        if match is None:
            raise UsageError(
                f"--docker.memory {self.memory!r}: expected a number with b, k, m or g, such as 4g"
            )
        return int(match[1]) * _UNITS[match[2]]
