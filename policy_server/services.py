"""The services of the wire: each call checked, answered, or refused with a status and why."""

from __future__ import annotations

import asyncio
import functools
import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import grpc
from google.protobuf.message import DecodeError, Message

from policy_interface.client_options import POLICY_KEY
from policy_interface.codec import encode_metadata
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyReset_pb2,
    PolicyStep_pb2,
)
from policy_interface.pixel_views import SplitRequest, split_request, split_stream_request
from policy_server.deployments import Deployment, Deployments
from policy_server.episodes import Episode, Episodes, station_differences
from policy_server.metrics import ServerMetrics
from policy_server.rate_limit import RateLimiter
from policy_server.refusals import (
    REFUSED,
    MalformedRequestError,
    RateLimitError,
    Refusal,
    UnavailableError,
    refusal,
)
from policy_server.security import client_key

logger = logging.getLogger(__name__)

_METADATA_SERVICE = "lbm_policy_interface.GetPolicyMetadataService"
_RESET_SERVICE = "lbm_policy_interface.PolicyResetService"
_STEP_SERVICE = "lbm_policy_interface.PolicyStepService"
_SESSION_SERVICE = "assay_policy_interface.PolicySession"
SERVICE_NAMES = (_METADATA_SERVICE, _RESET_SERVICE, _STEP_SERVICE, _SESSION_SERVICE)

_UUID_CHARACTERS = 36

_END_OF_STREAM: Any = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]

_Context = grpc.aio.ServicerContext[Any, Any]
_RequestT = TypeVar("_RequestT", bound=Message)


class PolicyServices:
    """The calls of the wire. Everything here runs on one event loop."""

    def __init__(
        self,
        *,
        deployments: Deployments,
        episodes: Episodes,
        metrics: ServerMetrics,
        limiter: RateLimiter | None,
    ) -> None:
        """limiter: how often each client may call; None for as often as it likes."""
        self._deployments = deployments
        self._episodes = episodes
        self._metrics = metrics
        self._limiter = limiter
        self._closed_because: str | None = "the policy is still loading; ask the health service"
        self._is_closing = False
        self._waiting_streams: set[asyncio.Task[Any]] = set()
        self._num_in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()

    def open(self) -> None:
        """Answer calls from now on."""
        self._closed_because = None

    def close(self) -> None:
        """Refuse new calls from now on; those under way are still answered."""
        self._closed_because = "the server is shutting down"
        self._is_closing = True
        for stream in self._waiting_streams:
            stream.cancel()

    async def wait_until_idle(self) -> None:
        """Return when no call is under way. A stream counts while one of its steps is."""
        await self._idle.wait()

    @property
    def num_in_flight(self) -> int:
        return self._num_in_flight

    def handlers(self) -> list[grpc.GenericRpcHandler]:
        """What to add to a grpc.aio server."""
        # Without deserializers, because gRPC answers UNKNOWN where its own one fails.
        unary = grpc.unary_unary_rpc_method_handler
        methods = {
            _METADATA_SERVICE: {"GetPolicyMetadata": self._metadata},
            _RESET_SERVICE: {"PolicyReset": self._reset},
            _STEP_SERVICE: {"PolicyStep": self._step},
            _SESSION_SERVICE: {"Handshake": self._handshake, "EndEpisode": self._end},
        }
        handlers: dict[str, dict[str, grpc.RpcMethodHandler]] = {
            service: {name: unary(self._answering(name, each)) for name, each in behaviours.items()}
            for service, behaviours in methods.items()
        }
        handlers[_SESSION_SERVICE]["Episode"] = grpc.stream_stream_rpc_method_handler(self._stream)
        return [
            grpc.method_handlers_generic_handler(service, by_name)
            for service, by_name in handlers.items()
        ]

    def _answering(
        self, method: str, behaviour: Callable[[bytes, _Context], Awaitable[bytes]]
    ) -> Callable[[bytes, _Context], Awaitable[bytes]]:
        async def answer(data: bytes, context: _Context) -> bytes:
            self._begin_call()
            is_admitted = False
            try:
                self._admit(context)
                is_admitted = True
                return await behaviour(data, context)
            # The edge of the process: a bug of ours fails one call, not every robot's.
            except Exception as error:  # noqa: BLE001
                # What was not let in stays unread: reading it is what it would cost.
                episode = self._concerned(method, data) if is_admitted else None
                refused = self._refused(method, error, context, episode)
            finally:
                self._end_call()
            await context.abort(refused.status, refused.text, refused.metadata)
            raise AssertionError("abort raises")

        return answer

    def _begin_call(self) -> None:
        self._num_in_flight += 1
        self._idle.clear()

    def _end_call(self) -> None:
        self._num_in_flight -= 1
        if self._num_in_flight == 0:
            self._idle.set()

    def _admit(self, context: _Context) -> None:
        """Raises UnavailableError and RateLimitError."""
        if self._closed_because is not None:
            raise UnavailableError(self._closed_because)
        if self._limiter is not None:
            wait_s = self._limiter.take(client_key(context))
            if wait_s > 0:
                raise RateLimitError(
                    f"more calls than this server allows a client; try again in {wait_s:.3f} s",
                    retry_after_s=wait_s,
                )

    def _refused(
        self, method: str, error: Exception, context: _Context, episode: Episode | None = None
    ) -> Refusal:
        session = "" if episode is None else str(episode.identifier)
        step = 0 if episode is None else episode.session.control_step
        refused = refusal(error, session=session, control_step=step)
        self._metrics.refused(method, refused.status.name)
        extra = {"session": session, "client": context.peer(), "code": refused.status.name}
        if isinstance(error, REFUSED):
            logger.warning("refused %s: %s", method, refused.text, extra=extra)
        else:
            logger.error("%s failed inside the server", method, exc_info=error, extra=extra)
        return refused

    def _concerned(self, method: str, data: bytes) -> Episode | None:
        """The episode of a step that is refused, for the refusal to name."""
        if method != "PolicyStep":
            return None
        try:
            request = _parsed(PolicyStep_pb2.PolicyStepRequest, split_request(data).rest)
            return self._episodes.peek(_identifier(request.client_identifier))
        except MalformedRequestError:
            return None

    def _chosen(self, name: str, context: _Context) -> Deployment:
        """Raises UnknownPolicyError."""
        if not name:
            # A client of LBM Eval's cannot say it in its message.
            for key, value in context.invocation_metadata() or ():
                if key == POLICY_KEY:
                    name = value if isinstance(value, str) else ""
        return self._deployments.find(name)

    async def _metadata(self, data: bytes, context: _Context) -> bytes:
        _parsed(GetPolicyMetadata_pb2.GetPolicyMetadataRequest, data)
        return GetPolicyMetadata_pb2.GetPolicyMetadataResponse(
            success=True, policy_metadata=encode_metadata(self._chosen("", context).metadata)
        ).SerializeToString()

    async def _handshake(self, data: bytes, context: _Context) -> bytes:
        request = _parsed(PolicySession_pb2.HandshakeRequest, data)
        deployment = self._chosen(request.policy, context)
        return PolicySession_pb2.HandshakeResponse(
            policy_contract=deployment.contract.to_json(),
            differences=station_differences(deployment.contract, request.station_contract),
            policy_metadata=encode_metadata(deployment.metadata),
            policy_names=self._deployments.names,
        ).SerializeToString()

    async def _reset(self, data: bytes, context: _Context) -> bytes:
        request = _parsed(PolicyReset_pb2.PolicyResetRequest, data)
        self._episodes.begin(
            identifier=_identifier(request.client_identifier),
            client=client_key(context),
            deployment=self._chosen(request.policy, context),
            seed=request.seed,
            station_contract=request.station_contract,
        )
        return PolicyReset_pb2.PolicyResetResponse(success=True).SerializeToString()

    async def _step(self, data: bytes, context: _Context) -> bytes:
        split = split_request(data)
        request = _parsed(PolicyStep_pb2.PolicyStepRequest, split.rest)
        episode = self._episodes.find(_identifier(request.client_identifier))
        observation = request.observation
        return await self._episodes.step(
            episode,
            observation,
            pixels=split.views(observation),
            wants_chunk=request.wants_chunk,
            control_step=request.control_step if request.HasField("control_step") else None,
            timeout_s=context.time_remaining(),
        )

    async def _end(self, data: bytes, context: _Context) -> bytes:
        request = _parsed(PolicySession_pb2.EndEpisodeRequest, data)
        was_known = self._episodes.end(_identifier(request.client_identifier))
        return PolicySession_pb2.EndEpisodeResponse(was_known=was_known).SerializeToString()

    async def _stream(self, requests: Any, context: _Context) -> None:
        """One episode: its first message begins it, and it ends with the stream."""
        episode: Episode | None = None
        refused: Refusal | None = None
        try:
            while (data := await self._read(context, episode)) is not _END_OF_STREAM:
                self._begin_call()
                try:
                    self._admit(context)
                    split = split_stream_request(data)
                    request = _parsed(PolicySession_pb2.EpisodeRequest, split.rest)
                    if episode is None:
                        episode = self._begin_stream(request, context)
                        response = _begun(episode)
                    else:
                        response = await self._step_in_stream(episode, request, split)
                    await context.write(response)
                finally:
                    self._end_call()
        # As for a call by itself.
        except Exception as error:  # noqa: BLE001
            refused = self._refused("Episode", error, context, episode)
        finally:
            if episode is not None:
                episode.on_close = None
                self._episodes.end(episode.identifier, reason="stream")
        if refused is not None:
            await context.abort(refused.status, refused.text, refused.metadata)

    async def _read(self, context: _Context, episode: Episode | None) -> Any:
        """The stream's next message, or EOF. Raises UnavailableError once the server closes."""
        if self._is_closing:
            raise UnavailableError(self._closed_because)
        task = asyncio.current_task()
        assert task is not None
        self._waiting_streams.add(task)
        try:
            return await context.read()
        except asyncio.CancelledError:
            was_forgotten = episode is not None and episode.on_close is None
            if not (self._is_closing or was_forgotten):
                raise
            task.uncancel()
            raise UnavailableError(
                "the episode was idle for too long" if was_forgotten else self._closed_because
            ) from None
        finally:
            self._waiting_streams.discard(task)

    def _begin_stream(
        self, request: PolicySession_pb2.EpisodeRequest, context: _Context
    ) -> Episode:
        if request.WhichOneof("kind") != "begin":
            raise MalformedRequestError("kind: expected begin in a stream's first message")
        begin = request.begin
        episode = self._episodes.begin(
            identifier=uuid.uuid4(),
            client=client_key(context),
            deployment=self._chosen(begin.policy, context),
            seed=begin.seed,
            station_contract=begin.station_contract,
        )
        task = asyncio.current_task()
        assert task is not None

        def forgotten() -> None:
            episode.on_close = None
            task.cancel()

        episode.on_close = forgotten
        return episode

    async def _step_in_stream(
        self, episode: Episode, request: PolicySession_pb2.EpisodeRequest, split: SplitRequest
    ) -> bytes:
        if request.WhichOneof("kind") != "step":
            raise MalformedRequestError("kind: expected step; a stream is one episode")
        found = self._episodes.find(episode.identifier)
        assert found is episode
        step = request.step
        answer = await self._episodes.step(
            episode,
            step.observation,
            pixels=split.views(step.observation),
            wants_chunk=step.wants_chunk,
            control_step=step.control_step if step.HasField("control_step") else None,
        )
        return _step_response(answer)


def _begun(episode: Episode) -> bytes:
    return PolicySession_pb2.EpisodeResponse(
        begun=PolicySession_pb2.EpisodeBegun(session=str(episode.identifier))
    ).SerializeToString()


def _step_response(answer: bytes) -> bytes:
    """An EpisodeResponse around a serialized PolicyStepResponse."""
    return PolicySession_pb2.EpisodeResponse(
        step=PolicyStep_pb2.PolicyStepResponse.FromString(answer)
    ).SerializeToString()


def _parsed(request_type: type[_RequestT], data: bytes) -> _RequestT:
    try:
        return request_type.FromString(data)
    except DecodeError as error:
        raise MalformedRequestError(
            f"expected a {request_type.DESCRIPTOR.full_name}, got {len(data)} bytes that are none"
        ) from error


def _identifier(text: str) -> uuid.UUID:
    try:
        # A text of another length is none that a client sends twice, and may be of any length.
        return _usual_identifier(text) if len(text) == _UUID_CHARACTERS else uuid.UUID(text)
    except ValueError as error:
        raise MalformedRequestError(
            f"client_identifier: expected a UUID, got {text!r:.80}"
        ) from error


@functools.lru_cache(maxsize=4096)
def _usual_identifier(text: str) -> uuid.UUID:
    """Remembered, because an episode sends the same one at every step."""
    return uuid.UUID(text)
