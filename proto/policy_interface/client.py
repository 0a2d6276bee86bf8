"""A robot's or a simulator's end of the wire: one channel, kept; every call with a deadline.

    with PolicyClient("127.0.0.1:50051") as client:
        client.reset(seed=7)
        action = client.step(observation)

What is asked and tried again is in policy_interface.client_exchanges; here it is done, blocking.
"""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import TypeVar

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
from policy_interface.client_errors import (
    CallFailure,
    PolicyServerError,
    PolicyServerRefusedError,
    PolicyServerUnreachableError,
)
from policy_interface.client_exchanges import BegunEpisode, Exchanges, Handshake
from policy_interface.client_options import ClientCredentials, ClientOptions, RetryPolicy
from policy_interface.codec import MAX_MESSAGE_BYTES, decode_action
from policy_interface.contract import Contract
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import DEFAULT_JPEG_QUALITY, Encoding
from policy_interface.observation_bytes import ObservationEncoder
from policy_interface.types import Action, Observation, PolicyMetadata

__all__ = [
    "Episode",
    "PolicyClient",
    "PolicyServerError",
    "PolicyServerRefusedError",
    "PolicyServerUnreachableError",
]

_T = TypeVar("_T")


class PolicyClient:
    """One server, over one channel that is opened once and reconnects by itself.

    Every call raises PolicyServerUnreachableError or PolicyServerRefusedError, in their many kinds
    (policy_interface.client_errors). Calls that may be made again are, within their deadline; a
    step only to a server of ours, which repeats its answer rather than act twice.

    Not for use by several threads at once: an episode is a sequence.
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
        sleep: Callable[[float], None] | None = None,
    ) -> None:
        """Nothing is sent yet, and no server need be there.

        address: HOST:PORT. timeout_s: the deadline of each call, further tries included.
        policy: which of the server's, by name; None for its first.
        encoding, quality: of the images. jpeg and png need a server of ours and the extra `images`.
        credentials: for TLS, and a token; None for a plaintext connection.
        max_message_bytes: that this side sends or takes.
        clock, sleep: of the pauses between tries; the default sleep ends when the client is closed.

        Raises ClientOptionError.
        """
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
        self._methods = {
            path: self._channel.unary_unary(path)
            for path in (METADATA, RESET, STEP, HANDSHAKE, END_EPISODE, HEALTH_CHECK)
        }
        self._encoder = ObservationEncoder(encoding, quality)
        self._exchanges = Exchanges(self._options, clock=clock)
        self._is_closed = threading.Event()
        self._sleep = self._sleep_until_closed if sleep is None else sleep

    @property
    def address(self) -> str:
        return self._options.address

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
        """Also ends, with CallCancelledError, a call that another thread waits for."""
        self._is_closed.set()
        self._channel.close()
        self._encoder.close()

    def wait_until_serving(self, *, timeout_s: float) -> None:
        """Return as soon as the server's health says SERVING.

        Raises PolicyServerUnreachableError after timeout_s, and at once UnsupportedError for a
        server that has no health service, and TransportSecurityError.
        """
        self._run(self._exchanges.wait_until_serving(timeout_s=timeout_s))

    def metadata(self) -> PolicyMetadata:
        return self._run(self._exchanges.metadata())

    def contract(self) -> Contract | None:
        """What the policy expects, or None from a server that is not ours and does not say.

        Raises ContractError where it says something that is no contract.
        """
        return self._run(self._exchanges.contract())

    def handshake(self, station_contract: Contract | None = None) -> Handshake:
        """The policy's contract, compared with the station's, and what else the server serves.

        Without a station's contract, it has no differences. Raises UnsupportedError for a
        server that is not ours.
        """
        return self._run(self._exchanges.handshake(station_contract))

    def reset(self, *, seed: int, station_contract: Contract | None = None) -> None:
        """Begin an episode, under a fresh identifier. seed: uint32.

        station_contract: refused, with StationMismatchError, where it does not fit the policy.
        """
        self._run(self._exchanges.reset(seed=seed, station_contract=station_contract))

    def step(self, observation: Observation) -> Action:
        """The action for this control step.

        Raises InvalidValueError for an answer that is no action.
        """
        return self._run(self._exchanges.step(self._encoder.encode(observation)))

    def step_chunk(
        self, observation: Observation, *, control_step: int | None = None
    ) -> ActionChunk:
        """The action for this control step, and those that are to follow.

        control_step: which one the observation is of, counted from 0, for a robot that went on by
        itself along the chunk before and asks again only when the next plan is due; None for the
        one after the last that was asked about.

        Raises InvalidValueError as step does, and UnsupportedError for a server that answers
        with one action at a time.
        """
        return self._run(
            self._exchanges.step_chunk(self._encoder.encode(observation), control_step=control_step)
        )

    def end_episode(self) -> bool:
        """Let the server forget the episode rather than wait until it is idle for too long.

        Whether it knew the episode; False from a server that is not ours.
        """
        return self._run(self._exchanges.end_episode())

    @contextmanager
    def episode(self, *, seed: int, station_contract: Contract | None = None) -> Iterator[Episode]:
        """An episode over one stream: nothing of it is left on the server once that has ended.

        Leaves reset, step and end_episode alone, which are of another episode. Raises
        UnsupportedError for a server that is not ours.
        """
        begun = self._run(
            self._exchanges.begin_episode(seed=seed, station_contract=station_contract)
        )
        try:
            yield Episode(begun, self._exchanges, self._encoder, self._options.timeout_s)
        except BaseException:
            begun.stream.cancel()
            raise
        begun.stream.end()

    def _open_channel(self) -> grpc.Channel:
        options = self._options.channel_options()
        credentials = self._options.credentials
        if credentials is None or not credentials.is_encrypted:
            return grpc.insecure_channel(self.address, options=options)
        return grpc.secure_channel(self.address, credentials.channel_credentials(), options=options)

    def _run(self, exchange: Exchange[_T]) -> _T:
        try:
            command = next(exchange)
            while True:
                command = exchange.send(self._do(command))
        except StopIteration as end:
            return end.value

    def _do(self, command: Command) -> Outcome:
        if isinstance(command, Pause):
            return self._sleep(command.seconds)
        if self._is_closed.is_set():
            return CLOSED
        if isinstance(command, Call):
            try:
                return self._methods[command.path](
                    command.request,
                    timeout=command.timeout_s,
                    metadata=self._metadata,
                    wait_for_ready=command.waits_for_connection,
                )
            except grpc.RpcError as error:
                return CallFailure.of(error)
        if isinstance(command, WatchHealth):
            return self._watch_health(command)
        return self._open_episode(command)

    def _watch_health(self, command: WatchHealth) -> HealthSeen:
        watch = self._channel.unary_stream(HEALTH_WATCH)(
            HEALTH_OF_SERVER,
            timeout=command.timeout_s,
            metadata=self._metadata,
        )
        status: bytes | None = None
        try:
            for status in watch:
                if status == SERVING:
                    self._do(command.check_before_leaving())
                    break
        except grpc.RpcError as error:
            return HealthSeen(status=status, failure=CallFailure.of(error))
        finally:
            watch.cancel()
        return HealthSeen(status=status)

    def _open_episode(self, command: OpenEpisode) -> EpisodeOpened | CallFailure:
        stream = _Stream(self._channel, self._metadata)
        try:
            answer = stream.ask(command.request, timeout_s=command.timeout_s)
        except BaseException:
            stream.cancel()
            raise
        if isinstance(answer, CallFailure):
            stream.cancel()
            return answer
        return EpisodeOpened(stream=stream, answer=answer)

    def _sleep_until_closed(self, seconds: float) -> None:
        self._is_closed.wait(seconds)


class Episode:
    """One episode over a stream of its own; see PolicyClient.episode.

    session: its name in the server's log. After an error the stream has ended, and the episode.
    """

    def __init__(
        self,
        begun: BegunEpisode,
        exchanges: Exchanges,
        encoder: ObservationEncoder,
        timeout_s: float,
    ) -> None:
        self.session = begun.session
        self._stream: _Stream = begun.stream
        self._exchanges = exchanges
        self._encoder = encoder
        self._timeout_s = timeout_s

    def step(self, observation: Observation) -> Action:
        """As PolicyClient.step, but a step that fails is not tried again."""
        return decode_action(self._step(observation, wants_chunk=False).action)

    def step_chunk(
        self, observation: Observation, *, control_step: int | None = None
    ) -> ActionChunk:
        """As PolicyClient.step_chunk, but a step that fails is not tried again."""
        return self._exchanges.chunk_of(
            self._step(observation, wants_chunk=True, control_step=control_step)
        )

    def _step(
        self, observation: Observation, *, wants_chunk: bool, control_step: int | None = None
    ) -> PolicyStep_pb2.PolicyStepResponse:
        request = self._exchanges.episode_step_request(
            self._encoder.encode(observation), wants_chunk=wants_chunk, control_step=control_step
        )
        return self._exchanges.episode_step_response(
            self._stream.ask(request, timeout_s=self._timeout_s)
        )


class _Stream:
    """A bidirectional stream as one question and one answer at a time.

    gRPC's blocking streams know no deadline for one answer; a thread reads them, and the wait for
    that thread has one.
    """

    def __init__(self, channel: grpc.Channel, metadata: tuple[tuple[str, str], ...]) -> None:
        self._requests: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
        self._answers: queue.SimpleQueue[bytes | CallFailure] = queue.SimpleQueue()
        self._failure: CallFailure | None = None
        self._call = channel.stream_stream(EPISODE)(
            iter(self._requests.get, None), metadata=metadata
        )
        self._reader = threading.Thread(target=self._read, name="episode-reader", daemon=True)
        self._reader.start()

    def ask(self, request: bytes, *, timeout_s: float) -> bytes | CallFailure:
        if self._failure is not None:
            return self._failure
        self._requests.put(request)
        try:
            answer = self._answers.get(timeout=timeout_s)
        except queue.Empty:
            answer = gave_up_waiting(timeout_s)
            self.cancel()
        if isinstance(answer, CallFailure):
            self._failure = answer
        return answer

    def end(self) -> None:
        """Tell the server, and let it say that it is done."""
        self._requests.put(None)
        self._reader.join(STREAM_END_TIMEOUT_S)
        self.cancel()

    def cancel(self) -> None:
        """Nothing more is said. Does nothing to a stream that has ended."""
        self._failure = self._failure or STREAM_ENDED
        self._call.cancel()
        # gRPC's thread that takes the requests waits for one.
        self._requests.put(None)

    def _read(self) -> None:
        try:
            for answer in self._call:
                self._answers.put(answer)
        except grpc.RpcError as error:
            self._answers.put(CallFailure.of(error))
        else:
            self._answers.put(STREAM_ENDED)
