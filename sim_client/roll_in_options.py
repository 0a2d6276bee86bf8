"""What `sim-client demos` is told of a policy that acts before the expert. Loads nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class RollIn:
    """Who acts before the expert does.

    Attributes:
        address: Of the policy's server, HOST:PORT. Without one the expert acts from the start.
        max_s: Longest that the policy acts, in seconds of the simulation. How long is drawn anew
            in each scenario, and cut short where the policy succeeds or fails by itself.
        wait_s: How long to wait for the server.
    """

    address: str | None = None
    max_s: float = 5.0
    wait_s: float = 60.0

    def __post_init__(self) -> None:
        for name in ("max_s", "wait_s"):
            if not 0.0 < getattr(self, name) <= 3600.0:
                option = name.replace("_", "-")
                raise ValueError(
                    f"--roll-in.{option}: expected seconds, more than 0 and at most 3600, "
                    f"got {getattr(self, name):g}"
                )
