"""Telling from a failure's message whether the policy failed, or what was around it.

LBM Eval scores an exception of its own as `is_success: false` and keeps the traceback as the
message; its clients know a lost server only as 'The server rejected this client uuid'. A verdict
on the policy has no message at all, or a sentence of the task's own. Standard library only.
"""

import re

from step_analysis.rollouts import Outcome

# Of most failures there is no message.
_FAILURE = Outcome.FAILURE
_TIMEOUT = re.compile(r"timed?[ -]?(out|limit)", re.IGNORECASE)

# What LBM Eval v1.1 raised in the rollouts released with VLA Foundry, and what grpc, Drake, CUDA
# and the operating system say of themselves.
_PHRASES = (
    "Traceback (most recent call last)",
    "SimFailure",
    "No space left on device",
    "rejected this client uuid",
    "SceneGraph encountered a non-finite value",
    "Unable to synchronously open object",
    "StatusCode.",
    "InactiveRpcError",
    "gRPC",
    "DEADLINE_EXCEEDED",
    "failed to connect",
    "connection closed",
    "connection lost",
    "connection refused",
    "connection reset",
    "connection timed out",
    "server unreachable",
    "socket closed",
    "broken pipe",
    "segmentation fault",
    "out of memory",
    "CUDA error",
    "eglMakeCurrent",
    "core dumped",
)
# A signal's name, or a Python exception at the start of a line: 'grpc.RpcError: ...'.
_EXCEPTION = (
    r"\bSIG(SEGV|KILL|ABRT|BUS|TERM)\b|^\s*([A-Za-z_]\w*\.)*[A-Z]\w*(Error|Exception)\b(:|\(|$)"
)
_INFRASTRUCTURE = re.compile(
    "|".join(rf"(?i:{re.escape(phrase)})" for phrase in _PHRASES) + "|" + _EXCEPTION, re.MULTILINE
)


def outcome_of_failure(message: object) -> Outcome:
    """What a failed episode with this message is: an error, a timeout or a failure."""
    if message is None:
        return _FAILURE
    if is_infrastructure(message):
        return Outcome.ERROR
    return Outcome.TIMEOUT if is_timeout(message) else Outcome.FAILURE


def is_infrastructure(message: object) -> bool:
    """Whether a failure's message says that something other than the policy failed."""
    return isinstance(message, str) and _INFRASTRUCTURE.search(message) is not None


def is_timeout(message: object) -> bool:
    """Whether a failure's message says that the policy used up the episode's time: a verdict.

    Ask `is_infrastructure` first: 'TimeoutError: ...' is an exception.
    """
    return isinstance(message, str) and _TIMEOUT.match(message) is not None
