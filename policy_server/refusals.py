"""How a call is refused: a gRPC status, a text for people, and a detail for programs."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from urllib.parse import quote

import grpc

from policy_interface.client_errors import ERROR_DETAIL_KEY, RETRY_PUSHBACK_KEY
from policy_interface.contract import ContractError
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.images import MissingCodecError
from policy_interface.types import InvalidValueError
from policy_server.batch_queue import DeadlineError, QueueFullError
from policy_server.batching import InvalidPlanError, PolicyFailedError
from policy_server.sessions import (
    ControlStepError,
    SessionBusyError,
    TooManySessionsError,
    UnknownSessionError,
)

# A status travels in HTTP/2 trailers, of which gRPC lets 8 KiB through. The text is there twice: as
# the status's, where a byte that is no printable ASCII takes three, and in the detail, in base64.
_MAX_TEXT_CHARACTERS = 2000
_MAX_SENT_BYTES = 6 * 1024
_SENT_AS_THEY_ARE = "".join(map(chr, range(0x20, 0x7F))).replace("%", "")

_NO_RETRY_MS = -1


class MalformedRequestError(ValueError):
    """Bytes that are no message, or an identifier that is no UUID."""


class UnavailableError(RuntimeError):
    """The policy is not loaded yet, or the server is shutting down."""


class UnknownPolicyError(LookupError):
    """A policy's name that this server does not serve."""


class RateLimitError(RuntimeError):
    """A client that calls more often than it may. retry_after_s: when it may again."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class StationMismatchError(ValueError):
    """A station that does not give what the policy expects."""


@dataclass(frozen=True, kw_only=True)
class _Kind:
    status: grpc.StatusCode
    reason: str
    retry_after_ms: int = _NO_RETRY_MS


_KINDS: dict[type[Exception], _Kind] = {
    MalformedRequestError: _Kind(
        status=grpc.StatusCode.INVALID_ARGUMENT, reason="malformed_request"
    ),
    InvalidValueError: _Kind(status=grpc.StatusCode.INVALID_ARGUMENT, reason="invalid_value"),
    ContractError: _Kind(status=grpc.StatusCode.INVALID_ARGUMENT, reason="broken_contract"),
    StationMismatchError: _Kind(
        status=grpc.StatusCode.FAILED_PRECONDITION, reason="station_mismatch"
    ),
    UnknownPolicyError: _Kind(status=grpc.StatusCode.NOT_FOUND, reason="unknown_policy"),
    UnknownSessionError: _Kind(status=grpc.StatusCode.FAILED_PRECONDITION, reason="no_episode"),
    ControlStepError: _Kind(status=grpc.StatusCode.FAILED_PRECONDITION, reason="control_step"),
    # "Concurrency issues such as a sequencer check failure", as gRPC defines it.
    SessionBusyError: _Kind(status=grpc.StatusCode.ABORTED, reason="session_busy"),
    TooManySessionsError: _Kind(
        status=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="too_many_sessions", retry_after_ms=1000
    ),
    QueueFullError: _Kind(status=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="queue_full"),
    RateLimitError: _Kind(status=grpc.StatusCode.RESOURCE_EXHAUSTED, reason="rate_limit"),
    DeadlineError: _Kind(status=grpc.StatusCode.DEADLINE_EXCEEDED, reason="deadline"),
    # Before the kind that it is one of.
    InvalidPlanError: _Kind(status=grpc.StatusCode.INTERNAL, reason="invalid_plan"),
    PolicyFailedError: _Kind(status=grpc.StatusCode.INTERNAL, reason="policy_failed"),
    MissingCodecError: _Kind(status=grpc.StatusCode.UNIMPLEMENTED, reason="missing_codec"),
    UnavailableError: _Kind(
        status=grpc.StatusCode.UNAVAILABLE, reason="unavailable", retry_after_ms=1000
    ),
}

REFUSED = tuple(_KINDS)
"""The errors that are answers; anything else is a bug of ours."""


@dataclass(frozen=True, kw_only=True)
class Refusal:
    """What is sent instead of an answer."""

    status: grpc.StatusCode
    text: str
    metadata: tuple[tuple[str, str | bytes], ...]


def refusal(error: Exception, *, session: str = "", control_step: int = 0) -> Refusal:
    """session, control_step: of the episode concerned, if any."""
    kind = next((kind for of, kind in _KINDS.items() if isinstance(error, of)), None)
    if kind is None:
        kind = _Kind(status=grpc.StatusCode.INTERNAL, reason="internal")
        text = "the server failed; see its log"
    else:
        text = _shortened(str(error))
    hint_s = getattr(error, "retry_after_s", None)
    retry_after_ms = kind.retry_after_ms if hint_s is None else max(1, round(hint_s * 1e3))
    detail = PolicySession_pb2.ErrorDetail(
        reason=kind.reason,
        field=_field(error),
        message=text,
        retry_after_ms=retry_after_ms,
        session=session,
        control_step=control_step,
    )
    metadata: tuple[tuple[str, str | bytes], ...] = (
        (ERROR_DETAIL_KEY, detail.SerializeToString()),
    )
    if retry_after_ms != _NO_RETRY_MS:
        metadata += ((RETRY_PUSHBACK_KEY, str(retry_after_ms)),)
    return Refusal(status=kind.status, text=text, metadata=metadata)


def _field(error: Exception) -> str:
    """Which part of the request is at fault: errors about one begin with its name."""
    if not isinstance(error, (InvalidValueError, MalformedRequestError)):
        return ""
    name, colon, _ = str(error).partition(": ")
    return _shortened(name, 200) if colon else ""


def _shortened(text: str, most: int = _MAX_TEXT_CHARACTERS) -> str:
    kept = text[:most]
    if _num_sent_bytes(kept) > _MAX_SENT_BYTES:
        lengths = range(len(kept))
        too_long = bisect_right(
            lengths, _MAX_SENT_BYTES, key=lambda length: _num_sent_bytes(kept[:length])
        )
        kept = kept[: too_long - 1]
    return text if kept == text else f"{kept}... ({len(text)} characters in all)"


def _num_sent_bytes(text: str) -> int:
    return len(quote(text, safe=_SENT_AS_THEY_ARE)) + len(text.encode()) * 4 // 3
