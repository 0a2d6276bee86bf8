"""The three services of the wire: each call checked, answered, or refused with a status and why."""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from collections.abc import Awaitable, Callable, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from policy_interface.codec import decode_observation, encode_action, encode_metadata
from policy_interface.contract import Contract, ContractError, violations
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyReset_pb2,
    PolicyStep_pb2,
)
from policy_interface.types import Action, InvalidValueError, Observation, PolicyMetadata
from policy_server.batching import Batcher, PolicyFailedError
from policy_server.metrics import ServerMetrics
from policy_server.observation_messages import message_violations
from policy_server.sessions import (
    Session,
    SessionBusyError,
    SessionTable,
    TooManySessionsError,
    UnknownSessionError,
)

logger = logging.getLogger(__name__)

_METADATA_SERVICE = "lbm_policy_interface.GetPolicyMetadataService"
_RESET_SERVICE = "lbm_policy_interface.PolicyResetService"
_STEP_SERVICE = "lbm_policy_interface.PolicyStepService"
SERVICE_NAMES = (_METADATA_SERVICE, _RESET_SERVICE, _STEP_SERVICE)

# A status travels in HTTP/2 trailers, of which gRPC lets 8 KiB through.
_MAX_DETAIL_CHARACTERS = 2000


class MalformedRequestError(ValueError):
    """Bytes that are no message, or an identifier that is no UUID."""


class UnavailableError(RuntimeError):
    """The policy is not loaded yet, or the server is shutting down."""


_STATUS_CODES: Mapping[type[Exception], grpc.StatusCode] = {
    MalformedRequestError: grpc.StatusCode.INVALID_ARGUMENT,
    InvalidValueError: grpc.StatusCode.INVALID_ARGUMENT,
    ContractError: grpc.StatusCode.INVALID_ARGUMENT,
    UnknownSessionError: grpc.StatusCode.FAILED_PRECONDITION,
    # "Concurrency issues such as a sequencer check failure", as gRPC defines it.
    SessionBusyError: grpc.StatusCode.ABORTED,
    TooManySessionsError: grpc.StatusCode.RESOURCE_EXHAUSTED,
    PolicyFailedError: grpc.StatusCode.INTERNAL,
    UnavailableError: grpc.StatusCode.UNAVAILABLE,
}

_RequestT = TypeVar("_RequestT", bound=Message)


@dataclass(frozen=True, kw_only=True, eq=False)
class Deployment:
    """A loaded policy, ready to plan, and what the server tells clients of it."""

    contract: Contract
    metadata: PolicyMetadata
    open_loop_steps: int
    num_observations: int
    batcher: Batcher


class PolicyServices:
    """The calls of the wire, for one deployment. Everything here runs on one event loop."""

    def __init__(
        self, *, sessions: SessionTable, metrics: ServerMetrics, decoders: Executor
    ) -> None:
        """decoders: threads where observations are decoded, off the event loop."""
        self._sessions = sessions
        self._metrics = metrics
        self._decoders = decoders
        self._deployment: Deployment | None = None
        self._closed_because: str | None = "the policy is still loading; ask the health service"
        self._num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self, deployment: Deployment) -> None:
        """Answer calls from now on."""
        self._deployment = deployment
        self._closed_because = None

    def close(self) -> None:
        """Refuse new calls from now on; those under way are still answered."""
        self._closed_because = "the server is shutting down"

    async def wait_until_idle(self) -> None:
        """Return when no call is under way."""
        await self._idle.wait()

    @property
    def num_in_flight(self) -> int:
        return self._num_in_flight

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What to add to a grpc.aio server."""
        return [
            self._unary(
                _METADATA_SERVICE,
                "GetPolicyMetadata",
                GetPolicyMetadata_pb2.GetPolicyMetadataRequest,
                self._metadata,
            ),
            self._unary(
                _RESET_SERVICE, "PolicyReset", PolicyReset_pb2.PolicyResetRequest, self._reset
            ),
            self._unary(_STEP_SERVICE, "PolicyStep", PolicyStep_pb2.PolicyStepRequest, self._step),
        ]

    def _unary(
        self,
        service: str,
        method: str,
        request_type: type[_RequestT],
        behaviour: Callable[[Deployment, _RequestT], Awaitable[Message]],
    ) -> grpc.GenericRpcHandler:
        async def answer(data: bytes, context: grpc.aio.ServicerContext[Any, Any]) -> bytes:
            self._num_in_flight += 1
            self._idle.clear()
            try:
                deployment = self._require_open()
                response = await behaviour(deployment, _parsed(request_type, data))
                return response.SerializeToString()
            except tuple(_STATUS_CODES) as error:
                code, detail = _status_code(error), _detail(error)
            # The edge of the process: a bug of ours fails one call, not every robot's.
            except Exception:
                logger.exception("%s failed inside the server", method)
                code, detail = grpc.StatusCode.INTERNAL, "the server failed; see its log"
            finally:
                self._num_in_flight -= 1
                if self._num_in_flight == 0:
                    self._idle.set()
            self._metrics.num_refusals += 1
            logger.warning("refused %s of %s: %s: %s", method, context.peer(), code.name, detail)
            await context.abort(code, detail)
            raise AssertionError("abort raises")

        # Without a deserializer, because gRPC answers UNKNOWN where its own one fails.
        handler = grpc.unary_unary_rpc_method_handler(answer)
        return grpc.method_handlers_generic_handler(service, {method: handler})

    def _require_open(self) -> Deployment:
        if self._closed_because is not None or self._deployment is None:
            raise UnavailableError(self._closed_because)
        return self._deployment

    async def _metadata(
        self, deployment: Deployment, request: GetPolicyMetadata_pb2.GetPolicyMetadataRequest
    ) -> Message:
        return GetPolicyMetadata_pb2.GetPolicyMetadataResponse(
            success=True, policy_metadata=encode_metadata(deployment.metadata)
        )

    async def _reset(
        self, deployment: Deployment, request: PolicyReset_pb2.PolicyResetRequest
    ) -> Message:
        client = _client(request.client_identifier)
        session = Session(
            seed=request.seed,
            open_loop_steps=deployment.open_loop_steps,
            num_observations=deployment.num_observations,
        )
        self._sessions.begin(client, session)
        self._metrics.num_episodes += 1
        logger.info(
            "episode of client %s begun with seed %d (%d sessions)",
            client,
            request.seed,
            len(self._sessions),
        )
        return PolicyReset_pb2.PolicyResetResponse(success=True)

    async def _step(
        self, deployment: Deployment, request: PolicyStep_pb2.PolicyStepRequest
    ) -> Message:
        started_s = time.perf_counter()
        client = _client(request.client_identifier)
        session = self._sessions.find(client)
        with session.stepping():
            is_planned = session.needs_plan
            if is_planned:
                action = await self._plan(deployment, client, session, request.observation)
            else:
                action = await self._continue(deployment, session, request.observation)
        response = PolicyStep_pb2.PolicyStepResponse(success=True, action=encode_action(action))
        latency = self._metrics.planning if is_planned else self._metrics.cached
        latency.add(time.perf_counter() - started_s)
        return response

    async def _plan(
        self,
        deployment: Deployment,
        client: uuid.UUID,
        session: Session,
        message: PolicyStep_pb2.MultiarmObservation,
    ) -> Action:
        observation = await self._decoded(deployment.contract, message)
        plan = await deployment.batcher.plan(session.history(observation), session.generator)
        if not self._sessions.is_current(client, session):
            raise SessionBusyError("the client reset while this step was being planned")
        return session.commit_plan(plan, observation)

    async def _continue(
        self,
        deployment: Deployment,
        session: Session,
        message: PolicyStep_pb2.MultiarmObservation,
    ) -> Action:
        if session.needs_observation:
            return session.continue_chunk(await self._decoded(deployment.contract, message))
        _require_none(message_violations(deployment.contract, message))
        return session.continue_chunk(None)

    async def _decoded(
        self, contract: Contract, message: PolicyStep_pb2.MultiarmObservation
    ) -> Observation:
        loop = asyncio.get_running_loop()
        observation = await loop.run_in_executor(self._decoders, decode_observation, message)
        _require_none(violations(contract, observation))
        return observation


def _require_none(violations: list[str]) -> None:
    if violations:
        raise ContractError("; ".join(violations))


def _parsed(request_type: type[_RequestT], data: bytes) -> _RequestT:
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        raise MalformedRequestError(
            f"expected a {request_type.DESCRIPTOR.full_name}, got {len(data)} bytes that are none"
        ) from error


def _client(identifier: str) -> uuid.UUID:
    try:
        return uuid.UUID(identifier)
    except ValueError as error:
        raise MalformedRequestError(
            f"client_identifier: expected a UUID, got {identifier!r:.80}"
        ) from error


def _status_code(error: Exception) -> grpc.StatusCode:
    return next(code for kind, code in _STATUS_CODES.items() if isinstance(error, kind))


def _detail(error: Exception) -> str:
    detail = str(error)
    if len(detail) <= _MAX_DETAIL_CHARACTERS:
        return detail
    return f"{detail[:_MAX_DETAIL_CHARACTERS]}... ({len(detail)} characters in all)"
