"""A robot's or a simulator's end of the wire: one channel, kept; every call with a deadline."""

from __future__ import annotations

import uuid
from types import TracebackType
from typing import Any

import grpc

from policy_interface.codec import (
    MAX_MESSAGE_BYTES,
    decode_action,
    decode_metadata,
    encode_observation,
)
from policy_interface.contract import CONTRACT_KEY, Contract
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    GetPolicyMetadata_pb2_grpc,
    PolicyReset_pb2,
    PolicyReset_pb2_grpc,
    PolicyStep_pb2,
    PolicyStep_pb2_grpc,
)
from policy_interface.types import Action, Observation, PolicyMetadata

# grpc.health.v1 on the wire: an empty HealthCheckRequest asks for the whole server, and
# HealthCheckResponse{status: SERVING} is field 1, varint 1. Spelt out so that a robot needs no
# package besides grpcio for it.
_HEALTH_WATCH = "/grpc.health.v1.Health/Watch"
_HEALTH_OF_SERVER = b""
_SERVING = b"\x08\x01"

# Answers that say "the server is not there", rather than "the server does not want this".
_UNREACHABLE = frozenset(
    {grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED, grpc.StatusCode.CANCELLED}
)


class PolicyServerError(RuntimeError):
    """A call to the policy server that brought no answer to act on."""


class PolicyServerUnreachableError(PolicyServerError):
    """The server is not there, died, or did not answer in time."""


class PolicyServerRefusedError(PolicyServerError):
    """The server answered, with an error: a broken contract, an unknown session, its own fault."""


class PolicyClient:
    """One server, over one channel that is opened once and reconnects by itself.

    Not for use by several threads at once: an episode is a sequence.
    """

    def __init__(self, address: str, *, timeout_s: float = 60.0) -> None:
        """address: HOST:PORT. timeout_s: the deadline of each call."""
        self.address = address
        self._timeout_s = timeout_s
        self._channel = grpc.insecure_channel(
            address,
            options=[
                ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
                ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
                # A server that comes back is found within a second, not after minutes of backoff.
                ("grpc.max_reconnect_backoff_ms", 1000),
            ],
        )
        self._metadata_service = GetPolicyMetadata_pb2_grpc.GetPolicyMetadataServiceStub(
            self._channel
        )
        self._reset_service = PolicyReset_pb2_grpc.PolicyResetServiceStub(self._channel)
        self._step_service = PolicyStep_pb2_grpc.PolicyStepServiceStub(self._channel)
        self._client_identifier = str(uuid.uuid4())

    def __enter__(self) -> PolicyClient:
        return self

    def __exit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        self._channel.close()

    def wait_until_serving(self, *, timeout_s: float) -> None:
        """Return as soon as the server's health says SERVING.

        Raises PolicyServerUnreachableError after timeout_s, and at once for a server
        that has no health service.
        """
        watch = self._channel.unary_stream(
            _HEALTH_WATCH, request_serializer=bytes, response_deserializer=bytes
        )
        call = watch(_HEALTH_OF_SERVER, timeout=timeout_s, wait_for_ready=True)
        try:
            for status in call:
                if status == _SERVING:
                    return
        except grpc.RpcError as error:
            raise self._translated(error, "health") from error
        finally:
            call.cancel()
        raise PolicyServerUnreachableError(f"{self.address} ended its health stream unserved")

    def metadata(self) -> PolicyMetadata:
        response: Any = self._call(
            "GetPolicyMetadata",
            self._metadata_service.GetPolicyMetadata,
            GetPolicyMetadata_pb2.GetPolicyMetadataRequest(
                client_identifier=self._client_identifier
            ),
        )
        return decode_metadata(response.policy_metadata)

    def contract(self) -> Contract | None:
        """What the policy expects, or None from a server that is not ours and does not say.

        Raises ContractError where it says something that is no contract.
        """
        text = self.metadata().runtime_information.get(CONTRACT_KEY)
        return None if text is None else Contract.from_json(text)

    def reset(self, *, seed: int) -> None:
        """Begin an episode, under a fresh identifier. seed: uint32."""
        self._client_identifier = str(uuid.uuid4())
        self._call(
            "PolicyReset",
            self._reset_service.PolicyReset,
            PolicyReset_pb2.PolicyResetRequest(
                client_identifier=self._client_identifier, seed=seed
            ),
        )

    def step(self, observation: Observation) -> Action:
        """The action for this control step.

        Raises PolicyServerUnreachableError, PolicyServerRefusedError, and InvalidValueError for an
        answer that is no action.
        """
        response: Any = self._call(
            "PolicyStep",
            self._step_service.PolicyStep,
            PolicyStep_pb2.PolicyStepRequest(
                client_identifier=self._client_identifier,
                observation=encode_observation(observation),
            ),
        )
        return decode_action(response.action)

    def _call(self, name: str, method: Any, request: Any) -> Any:
        try:
            response = method(request, timeout=self._timeout_s)
        except grpc.RpcError as error:
            raise self._translated(error, name) from error
        if not response.success:
            raise PolicyServerRefusedError(
                f"{self.address} answered {name} with success = false and no reason"
            )
        return response

    def _translated(self, error: grpc.RpcError, name: str) -> PolicyServerError:
        # Every RpcError raised by a call is also a grpc.Call; the stubs do not say so.
        status: grpc.StatusCode = error.code()  # pyright: ignore[reportAttributeAccessIssue]
        details = error.details()  # pyright: ignore[reportAttributeAccessIssue]
        if status in _UNREACHABLE:
            return PolicyServerUnreachableError(
                f"no answer to {name} from a policy server at {self.address} "
                f"({status.name}: {details})"
            )
        return PolicyServerRefusedError(f"{self.address} refused {name} ({status.name}): {details}")
