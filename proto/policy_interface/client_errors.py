"""What can come of a call to a policy server besides an answer: a typed error for each status.

PolicyServerError
├── PolicyServerUnreachableError    it is not there, or did not answer in time
│   ├── UnavailableError            nobody listens, it is loading, or it is shutting down
│   │   └── TransportSecurityError  one side speaks TLS and the other does not, or distrusts it
│   ├── DeadlineError               no answer in time
│   └── CallCancelledError          the call was given up, on either side
└── PolicyServerRefusedError        it answered, with an error
    ├── InvalidRequestError         a malformed observation, or one that breaks the contract
    ├── StationMismatchError        the station does not give what the policy expects
    ├── NoEpisodeError              no such episode, or no longer, or not at that step: reset
    ├── BusyError                   two steps at once, or a reset during a step
    ├── OverloadedError             too many sessions or requests; retry_after_s says when
    ├── MessageTooLargeError        over the limit of bytes of one side
    ├── PolicyFailureError          the policy, or the server, failed
    ├── NotAuthorizedError          no token, or one that is not valid
    ├── UnknownPolicyError          no policy of that name is served
    ├── UnsupportedError            no such call or image codec; the server may not be ours
    └── MalformedAnswerError        bytes that are not the answer's message
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import grpc
from google.protobuf.message import DecodeError

from policy_interface.generated.assay_policy_interface import PolicySession_pb2

ERROR_DETAIL_KEY = "assay-error-bin"
RETRY_PUSHBACK_KEY = "grpc-retry-pushback-ms"

# What gRPC itself says, on either side, of a message over its limit.
_TOO_LARGE = "larger than max"


class PolicyServerError(RuntimeError):
    """A call to the policy server that brought no answer to act on.

    status: gRPC's, or None where the server answered and the answer was no use.
    reason: one word for programs, such as "missing_camera"; field: the part of the request that is
    at fault; session, control_step: the episode concerned. Empty, or None, where the server did not
    say: only ours does.
    retry_after_s: when the server wants to be asked again, or None where it does not say.
    is_final: the server says, or it is plain, that asking again does not help.
    """

    status: grpc.StatusCode | None = None
    reason: str = ""
    field: str = ""
    session: str = ""
    control_step: int | None = None
    retry_after_s: float | None = None
    is_final: bool = False


class PolicyServerUnreachableError(PolicyServerError):
    """The server is not there, died, or did not answer in time."""


class UnavailableError(PolicyServerUnreachableError):
    """Nobody listens at the address, or the server is still loading or already shutting down."""


class TransportSecurityError(UnavailableError):
    """No connection, because of TLS: one side does not speak it, or does not trust the other."""


class DeadlineError(PolicyServerUnreachableError):
    """No answer within the time allowed."""


class CallCancelledError(PolicyServerUnreachableError):
    """The call was given up before it was answered."""


class PolicyServerRefusedError(PolicyServerError):
    """The server answered, with an error: a broken contract, an unknown session, its own fault."""


class InvalidRequestError(PolicyServerRefusedError):
    """The request is malformed, or breaks the policy's contract."""


class StationMismatchError(PolicyServerRefusedError):
    """The station does not give what the policy expects; the message lists every difference."""


class NoEpisodeError(PolicyServerRefusedError):
    """The server knows no such episode, or it is at another control step: reset."""


class BusyError(PolicyServerRefusedError):
    """Two calls of one episode got in each other's way."""


class OverloadedError(PolicyServerRefusedError):
    """The server has too much to do; see retry_after_s."""


class MessageTooLargeError(PolicyServerRefusedError):
    """A request or an answer of more bytes than one side takes."""


class PolicyFailureError(PolicyServerRefusedError):
    """The policy failed on this episode, or the server itself did."""


class NotAuthorizedError(PolicyServerRefusedError):
    """The server wants a token, or another one."""


class UnknownPolicyError(PolicyServerRefusedError):
    """The server serves no policy of that name."""


class UnsupportedError(PolicyServerRefusedError):
    """The server cannot do this. LBM Eval's has no calls but metadata, reset, step and health."""


class MalformedAnswerError(PolicyServerRefusedError):
    """The answer's bytes are not the message that was expected."""


_ERRORS: Mapping[grpc.StatusCode, type[PolicyServerError]] = {
    grpc.StatusCode.UNAVAILABLE: UnavailableError,
    grpc.StatusCode.DEADLINE_EXCEEDED: DeadlineError,
    grpc.StatusCode.CANCELLED: CallCancelledError,
    grpc.StatusCode.INVALID_ARGUMENT: InvalidRequestError,
    grpc.StatusCode.OUT_OF_RANGE: InvalidRequestError,
    grpc.StatusCode.FAILED_PRECONDITION: NoEpisodeError,
    grpc.StatusCode.ABORTED: BusyError,
    grpc.StatusCode.RESOURCE_EXHAUSTED: OverloadedError,
    grpc.StatusCode.INTERNAL: PolicyFailureError,
    # What a server of grpc answers where a handler raised: LBM Eval's does, for a bad observation.
    grpc.StatusCode.UNKNOWN: PolicyFailureError,
    grpc.StatusCode.DATA_LOSS: PolicyFailureError,
    grpc.StatusCode.UNAUTHENTICATED: NotAuthorizedError,
    grpc.StatusCode.PERMISSION_DENIED: NotAuthorizedError,
    grpc.StatusCode.NOT_FOUND: UnknownPolicyError,
    grpc.StatusCode.UNIMPLEMENTED: UnsupportedError,
}

# What one status does not tell apart, by the reason in the server's ErrorDetail.
_ERRORS_BY_REASON: Mapping[str, type[PolicyServerError]] = {
    "station_mismatch": StationMismatchError,
}


@dataclass(frozen=True, kw_only=True, eq=False)
class CallFailure:
    """How gRPC ended a call. trailing_metadata: (key, value), a key ending in -bin with bytes."""

    status: grpc.StatusCode
    details: str
    trailing_metadata: Sequence[tuple[str, str | bytes]] = ()
    cause: BaseException | None = None

    @staticmethod
    def of(error: grpc.RpcError) -> CallFailure:
        """Of an error raised by a call, blocking or not: all of them are grpc.Call too."""
        call: Any = error
        return CallFailure(
            status=call.code(),
            details=call.details() or "",
            trailing_metadata=tuple(call.trailing_metadata() or ()),
            cause=error,
        )


def error_of(
    failure: CallFailure, *, call: str, address: str, is_encrypted: bool
) -> PolicyServerError:
    """The typed error for a failed call. call: its name. is_encrypted: this side speaks TLS."""
    detail = _error_detail(failure)
    kind = _ERRORS.get(failure.status, PolicyServerRefusedError)
    if detail is not None:
        kind = _ERRORS_BY_REASON.get(detail.reason, kind)
    said = failure.details or ("" if detail is None else detail.message) or "no reason given"
    tls_trouble = None
    if kind is UnavailableError:
        tls_trouble = _tls_trouble(said, is_encrypted=is_encrypted)
        kind = UnavailableError if tls_trouble is None else TransportSecurityError
    elif kind is OverloadedError and detail is None and _TOO_LARGE in said:
        kind = MessageTooLargeError
    described = f"({failure.status.name}: {said})"
    if tls_trouble is not None:
        text = f"no connection to a policy server at {address}: {tls_trouble} {described}"
    elif issubclass(kind, PolicyServerUnreachableError):
        text = f"no answer to {call} from a policy server at {address} {described}"
    else:
        text = f"{address} refused {call} ({failure.status.name}): {said}"
    error = kind(text)
    error.status = failure.status
    if detail is not None:
        error.reason, error.field, error.session = detail.reason, detail.field, detail.session
        error.control_step = detail.control_step if detail.session else None
    retry_after_ms = _retry_after_ms(failure, detail)
    if retry_after_ms is not None and retry_after_ms >= 0:
        error.retry_after_s = retry_after_ms / 1e3
    error.is_final = (retry_after_ms is not None and retry_after_ms < 0) or (
        # Only these do not pass by themselves; a closed connection may be a server that restarts.
        tls_trouble is not None and _CLOSED not in said
    )
    return error


def _error_detail(failure: CallFailure) -> PolicySession_pb2.ErrorDetail | None:
    for key, value in failure.trailing_metadata:
        if key == ERROR_DETAIL_KEY and isinstance(value, bytes):
            try:
                return PolicySession_pb2.ErrorDetail.FromString(value)
            except DecodeError:
                return None
    return None


def _retry_after_ms(
    failure: CallFailure, detail: PolicySession_pb2.ErrorDetail | None
) -> int | None:
    """Negative where asking again does not help; None where the server does not say."""
    if detail is not None and detail.retry_after_ms != 0:
        return detail.retry_after_ms
    for key, value in failure.trailing_metadata:
        if key == RETRY_PUSHBACK_KEY:
            try:
                return int(value)
            except ValueError:
                # As gRPC reads it: a server that says something else does not want a retry.
                return -1
    return None


_CLOSED = "Socket closed"
_CONNECTING = "failed to connect"


def _tls_trouble(details: str, *, is_encrypted: bool) -> str | None:
    """What gRPC's words for a connection that did not come about say of TLS, if anything."""
    if _CONNECTING not in details:
        return None
    if not is_encrypted:
        if _CLOSED in details:
            return (
                "it accepted the connection and closed it at once, as a TLS port does with a "
                "plaintext client; if it is one, give credentials with root_certificates"
            )
        return None
    if "WRONG_VERSION_NUMBER" in details:
        return "it does not speak TLS; start the server with TLS, or connect without credentials"
    if "CERTIFICATE_VERIFY_FAILED" in details or "Hostname Verification" in details:
        return (
            "its certificate is not trusted; root_certificates must hold the authority that "
            "signed it, and it must be for this host's name (or give server_name)"
        )
    if "handshake failed" in details.lower():
        return "the TLS handshake failed"
    if _CLOSED in details:
        return (
            "it ended the TLS connection at once, as a server does that requires the client's "
            "certificate; give credentials with certificate and key"
        )
    return None
