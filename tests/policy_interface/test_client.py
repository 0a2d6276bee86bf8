"""The client against a plain gRPC server: one channel, deadlines, errors that say what happened."""

from __future__ import annotations

import socket
import threading
from concurrent import futures
from typing import Any

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from policy_interface import codec
from policy_interface.client import (
    PolicyClient,
    PolicyServerRefusedError,
    PolicyServerUnreachableError,
)
from policy_interface.contract import CONTRACT_KEY, Contract, ImageSize
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    GetPolicyMetadata_pb2_grpc,
    PolicyReset_pb2,
    PolicyReset_pb2_grpc,
    PolicyStep_pb2,
    PolicyStep_pb2_grpc,
)
from policy_interface.types import Action, PolicyMetadata

CONTRACT = Contract(cameras={"scene_right_0": ImageSize(height=8, width=12)})


class WatchedHealth(health.HealthServicer):
    """Tells when somebody has begun to watch."""

    def __init__(self) -> None:
        super().__init__()
        self.watched = threading.Event()

    def Watch(self, request: Any, context: grpc.ServicerContext, *callback: Any) -> Any:
        self.watched.set()
        return super().Watch(request, context, *callback)


class HoldServer(
    GetPolicyMetadata_pb2_grpc.GetPolicyMetadataServiceServicer,
    PolicyReset_pb2_grpc.PolicyResetServiceServicer,
    PolicyStep_pb2_grpc.PolicyStepServiceServicer,
):
    """Commands the pose that it is shown; each part of it can be told to misbehave."""

    def __init__(self) -> None:
        self.resets: list[tuple[str, int]] = []
        self.steps: list[str] = []
        self.peers: set[str] = set()
        self.accept = True
        self.status: tuple[grpc.StatusCode, str] | None = None
        self.release = threading.Event()
        self.release.set()
        self.health = WatchedHealth()
        self._server = grpc.server(futures.ThreadPoolExecutor(4))
        GetPolicyMetadata_pb2_grpc.add_GetPolicyMetadataServiceServicer_to_server(
            self, self._server
        )
        PolicyReset_pb2_grpc.add_PolicyResetServiceServicer_to_server(self, self._server)
        PolicyStep_pb2_grpc.add_PolicyStepServiceServicer_to_server(self, self._server)
        health_pb2_grpc.add_HealthServicer_to_server(self.health, self._server)
        port = self._server.add_insecure_port("127.0.0.1:0")
        self.address = f"127.0.0.1:{port}"
        self._server.start()

    def close(self) -> None:
        self.release.set()
        self._server.stop(grace=None).wait()

    def GetPolicyMetadata(self, request: Any, context: grpc.ServicerContext) -> Any:
        metadata = PolicyMetadata(
            name="hold", runtime_information={CONTRACT_KEY: CONTRACT.to_json()}
        )
        return GetPolicyMetadata_pb2.GetPolicyMetadataResponse(
            success=True, policy_metadata=codec.encode_metadata(metadata)
        )

    def PolicyReset(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.resets.append((request.client_identifier, request.seed))
        return PolicyReset_pb2.PolicyResetResponse(success=self.accept)

    def PolicyStep(self, request: Any, context: grpc.ServicerContext) -> Any:
        self.steps.append(request.client_identifier)
        self.peers.add(context.peer())
        self.release.wait()
        if self.status is not None:
            context.abort(*self.status)
        actual = codec.decode_observation(request.observation).actual
        action = Action(poses=actual.poses, gripper_widths_m=actual.gripper_widths_m)
        return PolicyStep_pb2.PolicyStepResponse(success=True, action=codec.encode_action(action))


@pytest.fixture
def server():
    server = HoldServer()
    yield server
    server.close()


def test_an_episode_is_one_identifier_on_one_channel(server, make_observation) -> None:
    observation = make_observation()
    with PolicyClient(server.address) as client:
        assert client.metadata().name == "hold"
        assert client.contract() == CONTRACT
        for seed in (7, 8):
            client.reset(seed=seed)
            for _ in range(3):
                action = client.step(observation)
    for arm, pose in observation.actual.poses.items():
        assert np.array_equal(action.poses[arm].matrix(), pose.matrix())
    (first, seed_7), (second, seed_8) = server.resets
    assert (seed_7, seed_8) == (7, 8)
    assert server.steps == [first] * 3 + [second] * 3
    assert first != second
    assert len(server.peers) == 1


def test_waiting_ends_when_the_server_serves(server) -> None:
    status = health_pb2.HealthCheckResponse
    server.health.set("", status.NOT_SERVING)
    loaded = threading.Thread(
        target=lambda: (server.health.watched.wait(10), server.health.set("", status.SERVING))
    )
    loaded.start()
    with PolicyClient(server.address) as client:
        client.wait_until_serving(timeout_s=10)
    loaded.join()


def test_a_server_that_never_serves_is_reported(server) -> None:
    server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    with (
        PolicyClient(server.address) as client,
        pytest.raises(PolicyServerUnreachableError, match="DEADLINE_EXCEEDED"),
    ):
        client.wait_until_serving(timeout_s=0.2)


def test_no_server_is_reported_with_its_address() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
    with (
        PolicyClient(address) as client,
        pytest.raises(PolicyServerUnreachableError, match=address),
    ):
        client.metadata()


def test_a_silent_server_meets_the_deadline(server, make_observation) -> None:
    server.release.clear()
    with (
        PolicyClient(server.address, timeout_s=0.2) as client,
        pytest.raises(PolicyServerUnreachableError, match=r"PolicyStep.*DEADLINE_EXCEEDED"),
    ):
        client.step(make_observation())


def test_a_refusal_carries_the_servers_words(server, make_observation) -> None:
    server.status = (grpc.StatusCode.INVALID_ARGUMENT, "camera 'x' missing")
    with (
        PolicyClient(server.address) as client,
        pytest.raises(PolicyServerRefusedError, match=r"INVALID_ARGUMENT.*camera 'x' missing"),
    ):
        client.step(make_observation())


def test_an_answer_without_success_is_a_refusal(server) -> None:
    server.accept = False
    with (
        PolicyClient(server.address) as client,
        pytest.raises(PolicyServerRefusedError, match="PolicyReset with success = false"),
    ):
        client.reset(seed=0)
