"""PolicyClient for asyncio: the same calls, awaited.

async with AsyncPolicyClient("127.0.0.1:50051") as client:
    await client.reset(seed=7)
    action = await client.step(observation)
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, TypeVar

import grpc

from policy_interface.action_chunk import ActionChunk
from policy_interface.client_commands import (
    CLOSED,
    END_EPISODE,
    EPISODE,
    HANDSHAKE,
    HEALTH_CHECK,
    HEALTH_OF_SERVER,
    HEALTH_WATCH,
    METADATA,
    RESET,
    SERVING,
    STEP,
    STREAM_END_TIMEOUT_S,
    STREAM_ENDED,
    Call,
    Command,
    EpisodeOpened,
    Exchange,
    HealthSeen,
    OpenEpisode,
    Outcome,
    Pause,
    WatchHealth,
    gave_up_waiting,
)
from policy_interface.client_errors import CallFailure
from policy_interface.client_exchanges import BegunEpisode, Exchanges, Handshake
from policy_interface.client_options import ClientCredentials, ClientOptions, RetryPolicy
from policy_interface.codec import MAX_MESSAGE_BYTES, decode_action
from policy_interface.contract import Contract
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import DEFAULT_JPEG_QUALITY, Encoding
from policy_interface.observation_bytes import MessageBytes, ObservationEncoder
from policy_interface.types import Action, Observation, PolicyMetadata

_T = TypeVar("_T")

# Its type stubs do not know it.
_END_OF_STREAM = grpc.aio.EOF  # pyright: ignore[reportAttributeAccessIssue]


class AsyncPolicyClient:
    """One server, over one channel that is opened once and reconnects by itself.

    See PolicyClient, whose methods these are, with the same errors. To be made and used on one
    event loop, and an episode by one task at a time. A call whose task is cancelled is cancelled on
    the server too; the step may be made again.
    """

    def __init__(
        self,
        address: str,
        *,
        timeout_s: float = 60.0,
        policy: str | None = None,
        encoding: Encoding = "raw",
        quality: int = DEFAULT_JPEG_QUALITY,
        credentials: ClientCredentials | None = None,
        max_message_bytes: int = MAX_MESSAGE_BYTES,
        retries: RetryPolicy | None = None,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        """As PolicyClient's; sleep is awaited."""
        self._options = ClientOptions(
            address=address,
            timeout_s=timeout_s,
            policy=policy,
            encoding=encoding,
            quality=quality,
            credentials=credentials,
            max_message_bytes=max_message_bytes,
            retries=RetryPolicy() if retries is None else retries,
        )
        self._metadata = self._options.metadata()
        self._channel = self._open_channel()
        self._methods: dict[str, Any] = {
            path: self._channel.unary_unary(path)
            for path in (METADATA, RESET, STEP, HANDSHAKE, END_EPISODE, HEALTH_CHECK)
        }
        self._encoder = ObservationEncoder(encoding, quality)
        self._exchanges = Exchanges(self._options, clock=clock)
        self._sleep = sleep
        self._is_closed = False

    @property
    def address(self) -> str:
        return self._options.address

    async def __aenter__(self) -> AsyncPolicyClient:
        return self

    async def __aexit__(
        self,
        exception_type: type[BaseException] | None,
        exception: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Also ends, with CallCancelledError, a call that another task waits for."""
        self._is_closed = True
        await self._channel.close()
        self._encoder.close()

    async def wait_until_serving(self, *, timeout_s: float) -> None:
        await self._run(self._exchanges.wait_until_serving(timeout_s=timeout_s))

    async def metadata(self) -> PolicyMetadata:
        return await self._run(self._exchanges.metadata())

    async def contract(self) -> Contract | None:
        return await self._run(self._exchanges.contract())

    async def handshake(self, station_contract: Contract | None = None) -> Handshake:
        return await self._run(self._exchanges.handshake(station_contract))

    async def reset(self, *, seed: int, station_contract: Contract | None = None) -> None:
        await self._run(self._exchanges.reset(seed=seed, station_contract=station_contract))

    async def step(self, observation: Observation) -> Action:
        return await self._run(self._exchanges.step(await _encoded(self._encoder, observation)))

    async def step_chunk(
        self, observation: Observation, *, control_step: int | None = None
    ) -> ActionChunk:
        encoded = await _encoded(self._encoder, observation)
        return await self._run(self._exchanges.step_chunk(encoded, control_step=control_step))

    async def end_episode(self) -> bool:
        return await self._run(self._exchanges.end_episode())

    @asynccontextmanager
    async def episode(
        self, *, seed: int, station_contract: Contract | None = None
    ) -> AsyncIterator[AsyncEpisode]:
        begun = await self._run(
            self._exchanges.begin_episode(seed=seed, station_contract=station_contract)
        )
        try:
            yield AsyncEpisode(begun, self._exchanges, self._encoder, self._options.timeout_s)
        except BaseException:
            begun.stream.cancel()
            raise
        await begun.stream.end()

    def _open_channel(self) -> grpc.aio.Channel:
        options = self._options.channel_options()
        credentials = self._options.credentials
        if credentials is None or not credentials.is_encrypted:
            return grpc.aio.insecure_channel(self.address, options=options)
        return grpc.aio.secure_channel(
            self.address, credentials.channel_credentials(), options=options
        )

    async def _run(self, exchange: Exchange[_T]) -> _T:
        try:
            command = next(exchange)
            while True:
                command = exchange.send(await self._do(command))
        except StopIteration as end:
            return end.value

    async def _do(self, command: Command) -> Outcome:
        if isinstance(command, Pause):
            return await self._sleep(command.seconds)
        if self._is_closed:
            return CLOSED
        if isinstance(command, Call):
            try:
                return await self._methods[command.path](
                    command.request,
                    timeout=command.timeout_s,
                    metadata=self._metadata,
                    wait_for_ready=command.waits_for_connection,
                )
            except grpc.RpcError as error:
                return CallFailure.of(error)
            except asyncio.CancelledError:
                if _task_is_cancelled():
                    raise
                return CLOSED
        if isinstance(command, WatchHealth):
            return await self._watch_health(command)
        return await self._open_episode(command)

    async def _watch_health(self, command: WatchHealth) -> HealthSeen:
        watch: Any = self._channel.unary_stream(HEALTH_WATCH)(
            HEALTH_OF_SERVER,
            timeout=command.timeout_s,
            metadata=self._metadata,
        )
        status: bytes | None = None
        try:
            async for status in watch:
                if status == SERVING:
                    await self._do(command.check_before_leaving())
                    break
        except grpc.RpcError as error:
            return HealthSeen(status=status, failure=CallFailure.of(error))
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            return HealthSeen(status=status, failure=CLOSED)
        finally:
            watch.cancel()
        return HealthSeen(status=status)

    async def _open_episode(self, command: OpenEpisode) -> EpisodeOpened | CallFailure:
        stream = _AsyncStream(self._channel, self._metadata)
        answer = await stream.ask(command.request, timeout_s=command.timeout_s)
        if isinstance(answer, CallFailure):
            return answer
        return EpisodeOpened(stream=stream, answer=answer)


def _task_is_cancelled() -> bool:
    """Whether a CancelledError is meant for the task, rather than for a call that it waits for.

    gRPC raises it for both; the second is what happens to the calls of a channel that is closed.
    """
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0


async def _encoded(encoder: ObservationEncoder, observation: Observation) -> MessageBytes:
    if encoder.takes_long(observation):
        return await asyncio.to_thread(encoder.encode, observation)
    return encoder.encode(observation)


class AsyncEpisode:
    """One episode over a stream of its own; see policy_interface.client.Episode."""

    def __init__(
        self,
        begun: BegunEpisode,
        exchanges: Exchanges,
        encoder: ObservationEncoder,
        timeout_s: float,
    ) -> None:
        self.session = begun.session
        self._stream: _AsyncStream = begun.stream
        self._exchanges = exchanges
        self._encoder = encoder
        self._timeout_s = timeout_s

    async def step(self, observation: Observation) -> Action:
        """As AsyncPolicyClient.step, but a step that fails is not tried again."""
        return decode_action((await self._step(observation, wants_chunk=False)).action)

    async def step_chunk(
        self, observation: Observation, *, control_step: int | None = None
    ) -> ActionChunk:
        """As AsyncPolicyClient.step_chunk, but a step that fails is not tried again."""
        return self._exchanges.chunk_of(
            await self._step(observation, wants_chunk=True, control_step=control_step)
        )

    async def _step(
        self, observation: Observation, *, wants_chunk: bool, control_step: int | None = None
    ) -> PolicyStep_pb2.PolicyStepResponse:
        request = self._exchanges.episode_step_request(
            await _encoded(self._encoder, observation),
            wants_chunk=wants_chunk,
            control_step=control_step,
        )
        return self._exchanges.episode_step_response(
            await self._stream.ask(request, timeout_s=self._timeout_s)
        )


class _AsyncStream:
    """A bidirectional stream as one question and one answer at a time."""

    def __init__(self, channel: grpc.aio.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._failure: CallFailure | None = None
        self._call: Any = channel.stream_stream(EPISODE)(metadata=metadata)
        self._end: asyncio.Future[CallFailure] = asyncio.get_running_loop().create_future()
        self._call.add_done_callback(self._note_end)

    async def ask(self, request: bytes, *, timeout_s: float) -> bytes | CallFailure:
        if self._failure is not None:
            return self._failure
        try:
            async with asyncio.timeout(timeout_s):
                answer = await self._exchanged(request)
        except TimeoutError:
            answer = gave_up_waiting(timeout_s)
            self.cancel()
        except BaseException:
            # The answer may still come, and would be taken for that to the next question.
            self.cancel()
            raise
        if isinstance(answer, CallFailure):
            self._failure = answer
        return answer

    async def _exchanged(self, request: bytes) -> bytes | CallFailure:
        try:
            await self._call.write(request)
            answer = await self._call.read()
        except (grpc.RpcError, asyncio.InvalidStateError):
            # The stream ended, perhaps between two questions.
            return await self._how_it_ended()
        except asyncio.CancelledError:
            if _task_is_cancelled():
                raise
            return CLOSED
        return await self._how_it_ended() if answer is _END_OF_STREAM else answer

    async def _how_it_ended(self) -> CallFailure:
        done, _ = await asyncio.wait({self._end}, timeout=STREAM_END_TIMEOUT_S)
        return self._end.result() if done else STREAM_ENDED

    def _note_end(self, call: Any) -> None:
        status = _at_hand(call.code())
        details = _at_hand(call.details()) or ""
        # A write that fails because the server has ended the stream puts this in the place of what
        # the server said, which was there before it or comes after it (grpc/grpc issue 36066).
        if self._end.done() or details == "Internal error from Core":
            return
        self._end.set_result(
            STREAM_ENDED
            if status is grpc.StatusCode.OK
            else CallFailure(
                status=status,
                details=details,
                trailing_metadata=tuple(_at_hand(call.trailing_metadata()) or ()),
            )
        )

    async def end(self) -> None:
        """Tell the server, and let it say that it is done."""
        if self._failure is None:
            try:
                async with asyncio.timeout(STREAM_END_TIMEOUT_S):
                    await self._call.done_writing()
                    await self._call.code()
            except (TimeoutError, grpc.RpcError, asyncio.InvalidStateError):
                # It was told, or is gone: either way nothing is left to say.
                pass
        self.cancel()

    def cancel(self) -> None:
        """Nothing more is said. Does nothing to a stream that has ended."""
        self._failure = self._failure or STREAM_ENDED
        self._call.cancel()


def _at_hand(coroutine: Coroutine[Any, Any, _T]) -> _T:
    """The result of a coroutine that has nothing to wait for."""
    try:
        coroutine.send(None)
    except StopIteration as end:
        return end.value
    raise AssertionError("a call that is done knows how it ended")
