"""An episode as the load sees it: begun, a step at a time, and ended."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import grpc

from policy_interface.async_client import AsyncEpisode, AsyncPolicyClient
from policy_interface.client_commands import END_EPISODE, EPISODE, RESET, STEP
from policy_interface.client_errors import CallFailure, PolicyServerError
from policy_interface.client_options import ClientOptions, RetryPolicy
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2
from policy_interface.observation_bytes import (
    MessageBytes,
    episode_step_bytes,
    observation_bytes,
    step_request_bytes,
)
from policy_interface.types import Observation
from policy_server.bench.load import Load

_ENDED = "ENDED"


class StepError(RuntimeError):
    """A call that brought no answer. status: gRPC's, or ENDED where a stream ended without one."""

    def __init__(self, status: str, details: str) -> None:
        super().__init__(f"{status}: {details}")
        self.status = status


class Episode(Protocol):
    """One episode at a time; every method raises StepError."""

    async def begin(self, seed: int) -> None: ...

    async def step(self, index: int) -> tuple[int, int]:
        """Send the index-th observation, over and over from the first; bytes sent and received."""
        ...

    async def end(self) -> None: ...

    async def close(self) -> None:
        """For good."""
        ...


def make_episode(load: Load, observations: Sequence[Observation]) -> Episode:
    """On a connection of its own."""
    if load.encodes:
        return _RobotEpisode(load, observations)
    return (_StreamEpisode if load.streams else _CallEpisode)(load, observations)


def _options(load: Load) -> ClientOptions:
    return ClientOptions(
        address=load.address,
        timeout_s=load.timeout_s,
        credentials=load.credentials,
        retries=RetryPolicy(max_tries=1),
    )


def _channel(load: Load) -> grpc.aio.Channel:
    options = _options(load)
    if load.credentials is None or not load.credentials.is_encrypted:
        return grpc.aio.insecure_channel(load.address, options=options.channel_options())
    return grpc.aio.secure_channel(
        load.address, load.credentials.channel_credentials(), options=options.channel_options()
    )


def _encoded(load: Load, observations: Sequence[Observation]) -> list[MessageBytes]:
    return [
        observation_bytes(each, encoding=load.encoding, quality=load.quality)
        for each in observations
    ]


class _CallEpisode:
    """A call a step, as LBM Eval's client does, and requests that are bytes already."""

    def __init__(self, load: Load, observations: Sequence[Observation]) -> None:
        self._channel = _channel(load)
        self._metadata = _options(load).metadata()
        self._timeout_s = load.timeout_s
        self._reset: Any = self._channel.unary_unary(RESET)
        self._step: Any = self._channel.unary_unary(STEP)
        self._end: Any = self._channel.unary_unary(END_EPISODE)
        self._identifier = str(uuid.uuid4())
        fields = PolicyStep_pb2.PolicyStepRequest(
            client_identifier=self._identifier, wants_chunk=load.wants_chunk
        )
        self._requests = [step_request_bytes(fields, each) for each in _encoded(load, observations)]

    async def begin(self, seed: int) -> None:
        request = PolicyReset_pb2.PolicyResetRequest(client_identifier=self._identifier, seed=seed)
        await self._call(self._reset, request.SerializeToString())

    async def step(self, index: int) -> tuple[int, int]:
        request = self._requests[index % len(self._requests)]
        return len(request), len(await self._call(self._step, request))

    async def end(self) -> None:
        request = PolicySession_pb2.EndEpisodeRequest(client_identifier=self._identifier)
        # LBM Eval's servers, and a bare echo, have no such call.
        with contextlib.suppress(StepError):
            await self._call(self._end, request.SerializeToString())

    async def close(self) -> None:
        await self._channel.close()

    async def _call(self, method: Any, request: bytes) -> bytes:
        try:
            return await method(request, timeout=self._timeout_s, metadata=self._metadata)
        except grpc.RpcError as error:
            raise _step_error(error) from error


class _StreamEpisode:
    """A stream an episode, and requests that are bytes already."""

    def __init__(self, load: Load, observations: Sequence[Observation]) -> None:
        self._channel = _channel(load)
        self._metadata = _options(load).metadata()
        self._method: Any = self._channel.stream_stream(EPISODE)
        self._stream: Any = None
        fields = PolicySession_pb2.EpisodeStep(wants_chunk=load.wants_chunk)
        self._requests = [episode_step_bytes(fields, each) for each in _encoded(load, observations)]

    async def begin(self, seed: int) -> None:
        self._stream = self._method(metadata=self._metadata)
        begin = PolicySession_pb2.EpisodeBegin(seed=seed)
        await self._ask(PolicySession_pb2.EpisodeRequest(begin=begin).SerializeToString())

    async def step(self, index: int) -> tuple[int, int]:
        request = self._requests[index % len(self._requests)]
        return len(request), len(await self._ask(request))

    async def end(self) -> None:
        await self._stream.done_writing()
        await self._stream.read()

    async def close(self) -> None:
        await self._channel.close()

    async def _ask(self, request: bytes) -> bytes:
        try:
            await self._stream.write(request)
            answer = await self._stream.read()
        except grpc.RpcError as error:
            raise _step_error(error) from error
        if not isinstance(answer, bytes):
            status = await self._stream.code()
            raise StepError(
                _ENDED if status is grpc.StatusCode.OK else status.name,
                await self._stream.details() or "the stream ended",
            )
        return answer


class _RobotEpisode:
    """Our own client, which encodes each observation and reads each action."""

    def __init__(self, load: Load, observations: Sequence[Observation]) -> None:
        self._load = load
        self._observations = observations
        self._sizes = [each.size for each in _encoded(load, observations)]
        self._client = AsyncPolicyClient(
            load.address,
            timeout_s=load.timeout_s,
            encoding=load.encoding,
            quality=load.quality,
            credentials=load.credentials,
            retries=RetryPolicy(max_tries=1),
        )
        self._stream: AsyncEpisode | None = None
        self._open = contextlib.AsyncExitStack()

    async def begin(self, seed: int) -> None:
        with _as_step_error():
            if self._load.streams:
                episode = self._client.episode(seed=seed)
                self._stream = await self._open.enter_async_context(episode)
            else:
                await self._client.reset(seed=seed)

    async def step(self, index: int) -> tuple[int, int]:
        """The bytes that came back are not seen here: 0."""
        index %= len(self._observations)
        stepper = self._stream or self._client
        step = stepper.step_chunk if self._load.wants_chunk else stepper.step
        with _as_step_error():
            await step(self._observations[index])
        return self._sizes[index], 0

    async def end(self) -> None:
        with _as_step_error():
            await self._open.aclose()
            if self._stream is None:
                await self._client.end_episode()

    async def close(self) -> None:
        await self._client.close()


def _step_error(error: grpc.RpcError) -> StepError:
    failure = CallFailure.of(error)
    return StepError(failure.status.name, failure.details)


@contextlib.contextmanager
def _as_step_error() -> Iterator[None]:
    try:
        yield
    except PolicyServerError as error:
        status = _ENDED if error.status is None else error.status.name
        raise StepError(status, str(error)) from error
