"""What an exchange asks a client to do, in the terms of gRPC, and what comes of it."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import grpc

from policy_interface.client_errors import CallFailure

METADATA = "/lbm_policy_interface.GetPolicyMetadataService/GetPolicyMetadata"
RESET = "/lbm_policy_interface.PolicyResetService/PolicyReset"
STEP = "/lbm_policy_interface.PolicyStepService/PolicyStep"
HANDSHAKE = "/assay_policy_interface.PolicySession/Handshake"
EPISODE = "/assay_policy_interface.PolicySession/Episode"
END_EPISODE = "/assay_policy_interface.PolicySession/EndEpisode"
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
HEALTH_WATCH = "/grpc.health.v1.Health/Watch"

# grpc.health.v1 on the wire: an empty HealthCheckRequest asks for the whole server, and
# HealthCheckResponse{status: SERVING} is field 1, varint 1. Spelt out so that a robot needs no
# package besides grpcio for it.
HEALTH_OF_SERVER = b""
SERVING = b"\x08\x01"

# How long a stream's end may take to be acknowledged before it is cut off instead.
STREAM_END_TIMEOUT_S = 1.0


@dataclass(frozen=True, kw_only=True)
class Call:
    """Make a unary call. Send back the answer's bytes, or a CallFailure.

    waits_for_connection: until there is one, rather than fail where there is none.
    """

    path: str
    request: bytes
    timeout_s: float
    waits_for_connection: bool = False


@dataclass(frozen=True, kw_only=True)
class Pause:
    """Let time pass. Send back None."""

    seconds: float


@dataclass(frozen=True, kw_only=True)
class WatchHealth:
    """Watch the server's health until it serves. Send back a HealthSeen.

    Only for a server that says that it does not serve yet: grpcio-health-checking, which most
    servers in Python have, sends to a watch under a lock that the end of another watch waits for,
    in the thread that must report what was sent. A watch that ends while another is told
    something can stop such a server for good.
    """

    timeout_s: float

    def check_before_leaving(self) -> Call:
        """To be made before the watch is cancelled; its answer does not matter.

        Check takes that lock, so it is answered when every watch has been told that the server
        serves, and then this one may go.
        """
        return Call(path=HEALTH_CHECK, request=HEALTH_OF_SERVER, timeout_s=self.timeout_s)


@dataclass(frozen=True, kw_only=True)
class OpenEpisode:
    """Open a stream and send its first message. Send back an EpisodeOpened, or a CallFailure."""

    request: bytes
    timeout_s: float


class Stream(Protocol):
    """A stream, blocking or not."""

    def cancel(self) -> None: ...


@dataclass(frozen=True, kw_only=True)
class EpisodeOpened:
    """A stream, and the bytes of its first answer."""

    stream: Stream
    answer: bytes


@dataclass(frozen=True, kw_only=True)
class HealthSeen:
    """The last health that was told, if any, and how the watch failed, if it did."""

    status: bytes | None
    failure: CallFailure | None = None


Command = Call | Pause | WatchHealth | OpenEpisode
Outcome = bytes | CallFailure | HealthSeen | EpisodeOpened | None

_T = TypeVar("_T")
Exchange = Generator[Command, Any, _T]
"""Yields commands, is sent what came of each, and returns a result."""


def gave_up_waiting(timeout_s: float) -> CallFailure:
    """How a stream ends on which an answer did not come in time."""
    return CallFailure(
        status=grpc.StatusCode.DEADLINE_EXCEEDED, details=f"no answer within {timeout_s:g} s"
    )


# How a stream ends that the server ends without an error, or this side before an answer came.
STREAM_ENDED = CallFailure(
    status=grpc.StatusCode.CANCELLED, details="the stream of the episode has ended"
)

# How a call ends whose client is closed meanwhile.
CLOSED = CallFailure(status=grpc.StatusCode.CANCELLED, details="the client was closed")
