"""What both clients do, without doing any of it: which call comes next, and what its answer means.

An exchange is a generator. It yields what is to be done (a call, a pause) and is sent what came of
it; its return value is the result. PolicyClient does these things by blocking, AsyncPolicyClient
by awaiting; what is asked, checked and tried again is here, once, and without a clock or a socket
of its own.
"""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message

from policy_interface.action_chunk import ActionChunk, decode_chunk
from policy_interface.client_commands import (
    END_EPISODE,
    EPISODE,
    HANDSHAKE,
    HEALTH_CHECK,
    HEALTH_OF_SERVER,
    METADATA,
    RESET,
    SERVING,
    STEP,
    Call,
    EpisodeOpened,
    Exchange,
    HealthSeen,
    OpenEpisode,
    Pause,
    WatchHealth,
)
from policy_interface.client_errors import (
    BusyError,
    CallFailure,
    DeadlineError,
    MalformedAnswerError,
    OverloadedError,
    PolicyServerError,
    PolicyServerRefusedError,
    UnavailableError,
    UnsupportedError,
    error_of,
)
from policy_interface.client_options import ClientOptions
from policy_interface.codec import decode_action, decode_metadata
from policy_interface.contract import CONTRACT_KEY, Contract
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyReset_pb2,
    PolicyStep_pb2,
)
from policy_interface.observation_bytes import (
    MessageBytes,
    episode_step_bytes,
    step_request_bytes,
)
from policy_interface.types import Action, PolicyMetadata

_MessageT = TypeVar("_MessageT", bound=Message)

# gRPC takes a timeout of nothing for an error rather than for a deadline.
_LEAST_TIMEOUT_S = 1e-3


@dataclass(frozen=True, kw_only=True)
class Handshake:
    """A policy and a station, compared. differences is empty where the station fits."""

    policy_contract: Contract
    differences: tuple[str, ...]
    metadata: PolicyMetadata
    policy_names: tuple[str, ...]


@dataclass(frozen=True, kw_only=True)
class BegunEpisode:
    """A stream on which an episode has begun. session: the server's name for it."""

    session: str
    stream: Any


class Exchanges:
    """The exchanges of one client, and what it remembers between them."""

    def __init__(self, options: ClientOptions, *, clock: Callable[[], float]) -> None:
        """clock: seconds, monotonic."""
        self._options = options
        self._clock = clock
        self._random = random.Random()  # noqa: S311 (spreads retries, guards nothing)
        self._client_identifier = str(uuid.uuid4())
        self._num_steps_answered = 0
        # Whether the server is one of ours, which repeats an answer rather than act twice: it is
        # where it shakes hands. None as long as nobody has asked.
        self._is_ours: bool | None = None

    def wait_until_serving(self, *, timeout_s: float) -> Exchange[None]:
        deadline_s = self._clock() + timeout_s

        def remaining_s() -> float:
            return max(deadline_s - self._clock(), _LEAST_TIMEOUT_S)

        num_tries = 0
        has_watch = True
        before: PolicyServerError | None = None
        while True:
            num_tries += 1
            # The first time without waiting for a connection: only so gRPC says why none is.
            answer: bytes | CallFailure = yield Call(
                path=HEALTH_CHECK,
                request=HEALTH_OF_SERVER,
                timeout_s=remaining_s(),
                waits_for_connection=num_tries > 1,
            )
            seen = _seen(answer)
            if has_watch and seen.failure is None and seen.status != SERVING:
                watched: HealthSeen = yield WatchHealth(timeout_s=remaining_s())
                # LBM Eval's server knows only Check.
                has_watch = not isinstance(self._health_error(watched), UnsupportedError)
                seen = watched if has_watch else seen
            if seen.status == SERVING:
                return
            error = self._health_error(seen)
            if not isinstance(error, UnavailableError) or error.is_final:
                # That nothing came of waiting says less than what there was before it.
                raise before if before and isinstance(error, DeadlineError) else error
            pause_s = self._options.retries.pause_s(num_tries, self._random.random())
            if self._clock() + pause_s >= deadline_s:
                raise error
            before = error
            yield Pause(seconds=pause_s)

    def _health_error(self, seen: HealthSeen) -> PolicyServerError:
        is_there = f"{self._options.address} is there, but its health says that it does not serve"
        if seen.failure is None:
            return UnavailableError(is_there)
        error = self._error(seen.failure, "Health")
        if seen.status is not None and isinstance(error, DeadlineError):
            # Of use to somebody who waits: this server will come, another address would not.
            waited = UnavailableError(f"{is_there} ({seen.failure.status.name})")
            waited.status, waited.is_final = seen.failure.status, True
            return waited
        return error

    def metadata(self) -> Exchange[PolicyMetadata]:
        response = yield from self._call(
            METADATA,
            GetPolicyMetadata_pb2.GetPolicyMetadataRequest(
                client_identifier=self._client_identifier
            ),
            GetPolicyMetadata_pb2.GetPolicyMetadataResponse,
        )
        self._require_success(response, METADATA)
        metadata = decode_metadata(response.policy_metadata)
        if CONTRACT_KEY not in metadata.runtime_information:
            self._is_ours = False
        return metadata

    def contract(self) -> Exchange[Contract | None]:
        metadata = yield from self.metadata()
        text = metadata.runtime_information.get(CONTRACT_KEY)
        return None if text is None else Contract.from_json(text)

    def handshake(self, station_contract: Contract | None) -> Exchange[Handshake]:
        response = yield from self._handshake(station_contract)
        return Handshake(
            policy_contract=Contract.from_json(response.policy_contract),
            differences=tuple(response.differences),
            metadata=decode_metadata(response.policy_metadata),
            policy_names=tuple(response.policy_names),
        )

    def _handshake(
        self, station_contract: Contract | None, timeout_s: float | None = None
    ) -> Exchange[PolicySession_pb2.HandshakeResponse]:
        request = PolicySession_pb2.HandshakeRequest(
            station_contract="" if station_contract is None else station_contract.to_json(),
            policy=self._options.policy or "",
        )
        try:
            response = yield from self._call(
                HANDSHAKE, request, PolicySession_pb2.HandshakeResponse, timeout_s=timeout_s
            )
        except UnsupportedError:
            self._is_ours = False
            raise
        self._is_ours = True
        return response

    def reset(self, *, seed: int, station_contract: Contract | None) -> Exchange[None]:
        """Under a fresh identifier, so that it may be repeated: each begins the same episode."""
        if station_contract is not None or self._options.policy is not None:
            yield from self._require_ours()
        self._client_identifier = str(uuid.uuid4())
        self._num_steps_answered = 0
        request = PolicyReset_pb2.PolicyResetRequest(
            client_identifier=self._client_identifier,
            seed=seed,
            station_contract="" if station_contract is None else station_contract.to_json(),
            policy=self._options.policy or "",
        )
        response = yield from self._call(RESET, request, PolicyReset_pb2.PolicyResetResponse)
        self._require_success(response, RESET)

    def _require_ours(self) -> Exchange[None]:
        """A foreign server would ignore a contract or a policy's name, and the robot would move."""
        if self._is_ours is None:
            with suppress(UnsupportedError):
                yield from self._handshake(None)
        if not self._is_ours:
            raise UnsupportedError(
                f"{self._options.address} is not a server of ours: it checks no station's contract "
                "and has no policies to choose from; reset without them"
            )

    def step(self, observation: MessageBytes) -> Exchange[Action]:
        response = yield from self._step(
            observation, control_step=self._num_steps_answered, wants_chunk=False
        )
        return decode_action(response.action)

    def step_chunk(
        self, observation: MessageBytes, *, control_step: int | None
    ) -> Exchange[ActionChunk]:
        if control_step is None:
            control_step = self._num_steps_answered
        response = yield from self._step(observation, control_step=control_step, wants_chunk=True)
        return self.chunk_of(response)

    def _step(
        self, observation: MessageBytes, *, control_step: int, wants_chunk: bool
    ) -> Exchange[PolicyStep_pb2.PolicyStepResponse]:
        fields = PolicyStep_pb2.PolicyStepRequest(
            client_identifier=self._client_identifier,
            wants_chunk=wants_chunk,
            control_step=control_step,
        )
        request = step_request_bytes(fields, observation)
        data = yield from self._tries(
            lambda remaining_s: Call(path=STEP, request=request, timeout_s=remaining_s),
            STEP,
            timeout_s=self._options.timeout_s,
            is_step=True,
        )
        response = self._parsed(PolicyStep_pb2.PolicyStepResponse, data, STEP)
        self._require_success(response, STEP)
        self._num_steps_answered = control_step + 1
        return response

    def end_episode(self) -> Exchange[bool]:
        request = PolicySession_pb2.EndEpisodeRequest(client_identifier=self._client_identifier)
        try:
            response = yield from self._call(
                END_EPISODE, request, PolicySession_pb2.EndEpisodeResponse
            )
        except UnsupportedError:
            return False
        return response.was_known

    def begin_episode(
        self, *, seed: int, station_contract: Contract | None
    ) -> Exchange[BegunEpisode]:
        """Open a stream. Its steps are never repeated: they die with it."""
        begin = PolicySession_pb2.EpisodeBegin(
            seed=seed,
            station_contract="" if station_contract is None else station_contract.to_json(),
            policy=self._options.policy or "",
        )
        request = PolicySession_pb2.EpisodeRequest(begin=begin).SerializeToString()
        opened: EpisodeOpened = yield from self._tries(
            lambda remaining_s: OpenEpisode(request=request, timeout_s=remaining_s),
            EPISODE,
            timeout_s=self._options.timeout_s,
        )
        try:
            response = self._parsed(PolicySession_pb2.EpisodeResponse, opened.answer, EPISODE)
            if response.WhichOneof("kind") != "begun":
                raise self._malformed(EPISODE, "something else than that the episode has begun")
        except MalformedAnswerError:
            opened.stream.cancel()
            raise
        self._is_ours = True
        return BegunEpisode(session=response.begun.session, stream=opened.stream)

    def episode_step_request(
        self, observation: MessageBytes, *, wants_chunk: bool, control_step: int | None
    ) -> bytes:
        return episode_step_bytes(
            PolicySession_pb2.EpisodeStep(wants_chunk=wants_chunk, control_step=control_step),
            observation,
        )

    def episode_step_response(
        self, answer: bytes | CallFailure
    ) -> PolicyStep_pb2.PolicyStepResponse:
        if isinstance(answer, CallFailure):
            raise self._error(answer, _name(EPISODE)) from answer.cause
        response = self._parsed(PolicySession_pb2.EpisodeResponse, answer, EPISODE)
        if response.WhichOneof("kind") != "step":
            raise self._malformed(EPISODE, "something else than the answer to a step")
        self._require_success(response.step, EPISODE)
        return response.step

    def chunk_of(self, response: PolicyStep_pb2.PolicyStepResponse) -> ActionChunk:
        if not response.HasField("chunk"):
            raise UnsupportedError(
                f"{self._options.address} answers with one action at a time; use step"
            )
        return decode_chunk(response.chunk)

    def _call(
        self,
        path: str,
        request: Message,
        response_type: type[_MessageT],
        *,
        timeout_s: float | None = None,
    ) -> Exchange[_MessageT]:
        """A unary call that may be repeated."""
        encoded = request.SerializeToString()
        data = yield from self._tries(
            lambda remaining_s: Call(path=path, request=encoded, timeout_s=remaining_s),
            path,
            timeout_s=self._options.timeout_s if timeout_s is None else timeout_s,
        )
        return self._parsed(response_type, data, path)

    def _tries(
        self,
        command: Callable[[float], Call | OpenEpisode],
        path: str,
        *,
        timeout_s: float,
        is_step: bool = False,
    ) -> Exchange[Any]:
        """Until there is an answer, or no use in trying. command: of the seconds that are left."""
        retries = self._options.retries
        deadline_s = self._clock() + timeout_s
        num_tries = 0
        remaining_s = timeout_s
        while True:
            num_tries += 1
            answer = yield command(remaining_s)
            if not isinstance(answer, CallFailure):
                return answer
            error = self._error(answer, _name(path))
            if num_tries >= retries.max_tries or not _may_pass(error, num_tries):
                raise error from answer.cause
            pause_s = retries.pause_s(num_tries, self._random.random())
            pause_s += error.retry_after_s or 0.0
            if self._clock() + pause_s >= deadline_s:
                raise error from answer.cause
            if is_step and not (yield from self._repeats_answers(deadline_s)):
                raise error from answer.cause
            yield Pause(seconds=pause_s)
            remaining_s = deadline_s - self._clock()
            if remaining_s <= 0:
                raise error from answer.cause

    def _repeats_answers(self, deadline_s: float) -> Exchange[bool]:
        """Whether a step can be sent again: only a server of ours knows a repeated one."""
        if self._is_ours is None:
            try:
                yield from self._handshake(None, max(deadline_s - self._clock(), _LEAST_TIMEOUT_S))
            except PolicyServerError:
                # Without an answer, it may be any server.
                return False
        return bool(self._is_ours)

    def _parsed(self, message_type: type[_MessageT], data: bytes, path: str) -> _MessageT:
        try:
            return message_type.FromString(data)
        except DecodeError as error:
            raise self._malformed(path, f"{len(data)} bytes that are no answer to it") from error

    def _malformed(self, path: str, what: str) -> MalformedAnswerError:
        return MalformedAnswerError(f"{self._options.address} answered {_name(path)} with {what}")

    def _require_success(self, response: Any, path: str) -> None:
        """LBM Eval's servers say of a failure no more than this."""
        if not response.success:
            raise PolicyServerRefusedError(
                f"{self._options.address} answered {_name(path)} with success = false and no reason"
            )

    def _error(self, failure: CallFailure, call: str) -> PolicyServerError:
        return error_of(
            failure,
            call=call,
            address=self._options.address,
            is_encrypted=self._options.is_encrypted,
        )


def _seen(answer: bytes | CallFailure) -> HealthSeen:
    if isinstance(answer, CallFailure):
        return HealthSeen(status=None, failure=answer)
    return HealthSeen(status=answer)


def _name(path: str) -> str:
    return path.rpartition("/")[2]


def _may_pass(error: PolicyServerError, num_tries: int) -> bool:
    """Whether the same call, made again a little later, may well be answered."""
    if error.is_final:
        return False
    if isinstance(error, OverloadedError):
        # Without a time to come back it may as well be a limit that stays.
        return error.retry_after_s is not None
    if isinstance(error, BusyError):
        # Ours in the way of our own: the try before this one is still being answered.
        return num_tries > 1
    return isinstance(error, UnavailableError)
