"""A server whose answers a test decides, and both clients with one face."""

from __future__ import annotations

import asyncio
import threading
from collections import defaultdict, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent import futures
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health, health_pb2_grpc

from policy_interface import codec
from policy_interface.async_client import AsyncPolicyClient
from policy_interface.client import PolicyClient
from policy_interface.contract import CONTRACT_KEY, Contract, ImageSize, differences
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyReset_pb2,
    PolicyStep_pb2,
)
from policy_interface.types import Action, PolicyMetadata

CONTRACT = Contract(cameras={"scene_right_0": ImageSize(height=8, width=12)})

_SERVICES = {
    "lbm_policy_interface.GetPolicyMetadataService": {
        "GetPolicyMetadata": GetPolicyMetadata_pb2.GetPolicyMetadataRequest
    },
    "lbm_policy_interface.PolicyResetService": {"PolicyReset": PolicyReset_pb2.PolicyResetRequest},
    "lbm_policy_interface.PolicyStepService": {"PolicyStep": PolicyStep_pb2.PolicyStepRequest},
}
_OUR_SERVICES = {
    "assay_policy_interface.PolicySession": {
        "Handshake": PolicySession_pb2.HandshakeRequest,
        "EndEpisode": PolicySession_pb2.EndEpisodeRequest,
        "Episode": PolicySession_pb2.EpisodeRequest,
    }
}


@dataclass(frozen=True)
class Refusal:
    """What the server says instead of an answer."""

    status: grpc.StatusCode
    details: str
    trailing_metadata: Sequence[tuple[str, str | bytes]]


@dataclass(frozen=True)
class Seen:
    """A call that the server has got."""

    name: str
    request: Any
    metadata: dict[str, str | bytes]
    peer: str


class WatchedHealth(health.HealthServicer):
    """Tells when somebody has begun to watch, and has gone, and who asks meanwhile.

    checked_while_watched: for each Check since somebody began, whether that watch was still open.
    """

    def __init__(self) -> None:
        # Its other way to watch sends under a lock that the end of another watch waits for.
        super().__init__(experimental_non_blocking=False)
        self.watched = threading.Event()
        self.left = threading.Event()
        self.checked_while_watched: list[bool] = []

    def Watch(self, request: Any, context: grpc.ServicerContext, *callback: Any) -> Any:
        context.add_callback(self.left.set)
        self.watched.set()
        return super().Watch(request, context, *callback)

    def Check(self, request: Any, context: grpc.ServicerContext) -> Any:
        if self.watched.is_set():
            self.checked_while_watched.append(not self.left.is_set())
        return super().Check(request, context)


class UnwatchedHealth(WatchedHealth):
    """As LBM Eval's: it can only be asked."""

    def Watch(self, request: Any, context: grpc.ServicerContext, *callback: Any) -> Any:
        context.abort(grpc.StatusCode.UNIMPLEMENTED, "Method not implemented!")


class ScriptedServer:
    """Commands the pose that it is shown, unless a test has told it what to say instead.

    release: while it is cleared, steps are not answered.
    """

    contract = CONTRACT

    def __init__(
        self,
        *,
        address: str = "127.0.0.1:0",
        is_ours: bool = True,
        states_contract: bool | None = None,
        can_watch: bool = True,
        credentials: grpc.ServerCredentials | None = None,
    ) -> None:
        self.seen: list[Seen] = []
        self.called = threading.Event()
        self.stepping = threading.Event()
        self._script: defaultdict[str, deque[Refusal | Any]] = defaultdict(deque)
        self.release = threading.Event()
        self.release.set()
        self.stream_ended = threading.Event()
        self.stream_was_finished = False
        self.health = WatchedHealth() if can_watch else UnwatchedHealth()
        self._is_ours = is_ours
        self._states_contract = is_ours if states_contract is None else states_contract
        self._num_steps = 0
        self._server = grpc.server(futures.ThreadPoolExecutor(6))
        for service, methods in (_SERVICES | (_OUR_SERVICES if is_ours else {})).items():
            self._server.add_generic_rpc_handlers(
                [
                    grpc.method_handlers_generic_handler(
                        service,
                        {name: self._handler(name, kind) for name, kind in methods.items()},
                    )
                ]
            )
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        port = (
            self._server.add_insecure_port(address)
            if credentials is None
            else self._server.add_secure_port(address, credentials)
        )
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def refuse(
        self,
        name: str,
        status: grpc.StatusCode,
        details: str = "as told",
        trailing_metadata: Sequence[tuple[str, str | bytes]] = (),
    ) -> None:
        """What to say to the next call of that name, after those that something is kept for."""
        self._script[name].append(Refusal(status, details, trailing_metadata))

    def answer(self, name: str, data: bytes) -> None:
        """As refuse, but an answer."""
        self._script[name].append(data)

    def requests(self, name: str) -> list[Any]:
        return [seen.request for seen in self.seen if seen.name == name]

    def close(self) -> None:
        self.release.set()
        self._server.stop(grace=None).wait()

    def _handler(self, name: str, request_type: Any) -> grpc.RpcMethodHandler:
        if name == "Episode":
            return grpc.stream_stream_rpc_method_handler(
                self._episode, request_deserializer=request_type.FromString
            )
        answer = getattr(self, f"_{name}")

        def answered(request: Any, context: grpc.ServicerContext) -> bytes:
            told = self._scripted(name, request, context)
            return answer(request).SerializeToString() if told is None else told

        return grpc.unary_unary_rpc_method_handler(
            answered, request_deserializer=request_type.FromString
        )

    def _scripted(self, name: str, request: Any, context: grpc.ServicerContext) -> bytes | None:
        metadata = dict(context.invocation_metadata())
        self.seen.append(Seen(name, request, metadata, context.peer()))
        self.called.set()
        if not self._script[name]:
            return None
        told = self._script[name].popleft()
        if isinstance(told, Refusal):
            context.set_trailing_metadata(tuple(told.trailing_metadata))
            context.abort(told.status, told.details)
        return told

    def _GetPolicyMetadata(self, request: Any) -> Any:
        return GetPolicyMetadata_pb2.GetPolicyMetadataResponse(
            success=True, policy_metadata=self._metadata()
        )

    def _metadata(self) -> Any:
        information = {CONTRACT_KEY: CONTRACT.to_json()} if self._states_contract else {}
        return codec.encode_metadata(PolicyMetadata(name="hold", runtime_information=information))

    def _PolicyReset(self, request: Any) -> Any:
        self._num_steps = 0
        return PolicyReset_pb2.PolicyResetResponse(success=True)

    def _PolicyStep(self, request: Any) -> Any:
        self.stepping.set()
        self.release.wait()
        actual = codec.decode_observation(request.observation).actual
        action = codec.encode_action(
            Action(poses=actual.poses, gripper_widths_m=actual.gripper_widths_m)
        )
        response = PolicyStep_pb2.PolicyStepResponse(success=True, action=action)
        if request.wants_chunk and self._is_ours:
            response.chunk.CopyFrom(
                PolicyStep_pb2.ActionChunk(
                    actions=[action] * 3,
                    first_control_step=self._num_steps,
                    planned_from_step=self._num_steps,
                    next_plan_step=self._num_steps + 2,
                    control_rate_hz=10.0,
                    inference_s=0.25,
                )
            )
        self._num_steps += 1
        return response

    def _Handshake(self, request: Any) -> Any:
        given = request.station_contract
        found = differences(policy=CONTRACT, station=Contract.from_json(given)) if given else []
        return PolicySession_pb2.HandshakeResponse(
            policy_contract=CONTRACT.to_json(),
            differences=found,
            policy_metadata=self._metadata(),
            policy_names=["hold", "wave"],
        )

    def _EndEpisode(self, request: Any) -> Any:
        return PolicySession_pb2.EndEpisodeResponse(was_known=True)

    def _episode(self, requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[bytes]:
        context.add_callback(self.stream_ended.set)
        for request in requests:
            name = f"Episode.{request.WhichOneof('kind')}"
            told = self._scripted(name, request, context)
            if told is not None:
                yield told
            elif request.HasField("begin"):
                self._num_steps = 0
                begun = PolicySession_pb2.EpisodeBegun(session="session 1")
                yield PolicySession_pb2.EpisodeResponse(begun=begun).SerializeToString()
            else:
                step = self._PolicyStep(request.step)
                yield PolicySession_pb2.EpisodeResponse(step=step).SerializeToString()
        self.stream_was_finished = True


class AwaitedClient:
    """An AsyncPolicyClient as a blocking one, on an event loop of its own."""

    def __init__(
        self, address: str, *, sleep: Callable[[float], None] | None = None, **options: Any
    ) -> None:
        self._runner = asyncio.Runner()
        if sleep is not None:

            async def slept(seconds: float) -> None:
                sleep(seconds)

            options["sleep"] = slept

        async def made() -> AsyncPolicyClient:
            return AsyncPolicyClient(address, **options)

        try:
            self._client = self._runner.run(made())
        except BaseException:
            self._runner.close()
            raise

    def __enter__(self) -> AwaitedClient:
        return self

    def __exit__(self, *exception: object) -> None:
        self._runner.run(self._client.close())
        self._runner.close()

    def __getattr__(self, name: str) -> Any:
        return self._blocking(self._client, name)

    @contextmanager
    def episode(self, **options: Any) -> Iterator[Any]:
        context = self._client.episode(**options)
        episode = self._runner.run(context.__aenter__())
        try:
            yield AwaitedEpisode(episode, self._blocking)
        except BaseException as error:
            self._runner.run(context.__aexit__(type(error), error, error.__traceback__))
            raise
        self._runner.run(context.__aexit__(None, None, None))

    def _blocking(self, target: Any, name: str) -> Callable[..., Any]:
        method = getattr(target, name)
        return lambda *arguments, **options: self._runner.run(method(*arguments, **options))


class AwaitedEpisode:
    def __init__(self, episode: Any, blocking: Callable[[Any, str], Callable[..., Any]]) -> None:
        self.session = episode.session
        self.step = blocking(episode, "step")
        self.step_chunk = blocking(episode, "step_chunk")


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    server = ScriptedServer()
    yield server
    server.close()


@pytest.fixture
def foreign_server() -> Iterator[ScriptedServer]:
    """With the calls of LBM Eval's wire, and none of ours."""
    server = ScriptedServer(is_ours=False)
    yield server
    server.close()


@pytest.fixture
def make_server() -> Iterator[Callable[..., ScriptedServer]]:
    """make(**options of ScriptedServer), closed at the end."""
    with ExitStack() as stack:

        def make(**options: Any) -> ScriptedServer:
            server = ScriptedServer(**options)
            stack.callback(server.close)
            return server

        yield make


@pytest.fixture(params=[PolicyClient, AwaitedClient], ids=["blocking", "asyncio"])
def connect(request: pytest.FixtureRequest) -> Callable[..., Any]:
    """A client: connect(address, **options), to be used in a `with`."""
    return request.param
