"""What is sent, how often, and by how many."""

from __future__ import annotations

from dataclasses import dataclass

from policy_interface.client_options import ClientCredentials
from policy_interface.contract import ImageSize
from policy_interface.images import DEFAULT_JPEG_QUALITY, Encoding

# What most vision backbones take.
_SIZE = ImageSize(height=224, width=224)


class LoadError(ValueError):
    """A load that makes no sense, or a server that takes no load at all."""


@dataclass(frozen=True, kw_only=True)
class Load:
    """What a server is asked to carry.

    num_processes: among which the clients are divided. One suffices until its core is busy.
    encodes: whether each step encodes its images and reads its action, with our own client, as a
        robot does. Otherwise requests are made before the clock starts, so that the time is the
        server's and the transport's, and nothing is left out for another client to do differently.
    rate_hz: of each client; its requests leave on schedule and its latencies count from then,
        whether or not the answers before came. None is closed-loop: one step after the other.
    streams: whether an episode is one stream rather than a call a step.
    wants_chunk: whether answers are asked for with the rest of the chunk.
    seconds: how long is measured, once every client has its first answers.
    """

    address: str
    num_clients: int = 16
    num_processes: int = 1
    num_cameras: int = 4
    size: ImageSize = _SIZE
    encoding: Encoding = "raw"
    quality: int = DEFAULT_JPEG_QUALITY
    encodes: bool = False
    rate_hz: float | None = None
    streams: bool = False
    wants_chunk: bool = False
    seconds: float = 5.0
    timeout_s: float = 30.0
    credentials: ClientCredentials | None = None

    def __post_init__(self) -> None:
        for name, least in (("num_clients", 1), ("num_processes", 1), ("num_cameras", 0)):
            if getattr(self, name) < least:
                raise LoadError(f"{name}: expected at least {least}, got {getattr(self, name)}")
        if self.num_processes > self.num_clients:
            raise LoadError(
                f"num_processes: expected at most {self.num_clients}, one a client, "
                f"got {self.num_processes}"
            )
        for name in ("seconds", "timeout_s", "rate_hz"):
            value = getattr(self, name)
            if value is not None and not 0 < value < 1e6:
                raise LoadError(f"{name}: expected more than 0, got {value}")
        if not 1 <= self.quality <= 100:
            raise LoadError(f"quality: expected 1 to 100, got {self.quality}")
