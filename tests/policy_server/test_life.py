"""Loading, serving, draining: what health says, and what calls get meanwhile."""

from __future__ import annotations

import contextlib
import socket
import threading
from collections.abc import Iterator

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from policy_interface.client import PolicyClient, PolicyServerUnreachableError
from policy_server.policy import InvalidPolicyError
from policy_server.scripted_policies import HoldPolicy
from policy_server.server import AddressError, OptionError, ServerOptions
from policy_server.testing import GatedPolicy, RunningServer, running_server

_NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
_SERVING = health_pb2.HealthCheckResponse.SERVING
_PATIENCE_S = 30.0


@contextlib.contextmanager
def _unloaded() -> Iterator[RunningServer]:
    running = RunningServer(ServerOptions(address="127.0.0.1:0"))
    running.start()
    try:
        yield running
    finally:
        running.close()


def _check(channel: grpc.Channel, service: str = "") -> int:
    request = health_pb2.HealthCheckRequest(service=service)
    return health_pb2_grpc.HealthStub(channel).Check(request, timeout=_PATIENCE_S).status


def test_health_follows_the_policy_from_loading_to_draining(make_observation, wire) -> None:
    may_load = threading.Event()
    policy = GatedPolicy(HoldPolicy())

    def build() -> GatedPolicy:
        assert may_load.wait(_PATIENCE_S)
        return policy

    with (
        _unloaded() as server,
        grpc.insecure_channel(server.address) as channel,
        wire(server.address) as client,
    ):
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=_PATIENCE_S
        )
        loading = server.load(build)
        assert _check(channel) == _NOT_SERVING
        assert next(watch).status == _NOT_SERVING
        call = client.begin("GetPolicyMetadata", b"")
        assert call.code() == grpc.StatusCode.UNAVAILABLE
        assert "still loading" in call.details()

        may_load.set()
        loading.result(_PATIENCE_S)
        assert next(watch).status == _SERVING
        assert _check(channel) == _SERVING
        assert _check(channel, "lbm_policy_interface.PolicyStepService") == _SERVING
        client.reset(seed=0)
        under_way = client.begin_step(make_observation())
        assert policy.next_batch_size() == 1

        draining = server.drain()
        assert next(watch).status == _NOT_SERVING
        assert next(watch, None) is None
        assert _check(channel) == _NOT_SERVING
        refused = client.begin_step(make_observation())
        assert refused.code() == grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in refused.details()
        assert not draining.done()

        policy.let_go()
        assert under_way.result().success
        assert draining.result(_PATIENCE_S)


def test_health_says_that_a_policy_is_being_replaced_and_episodes_go_on(
    make_observation, wire
) -> None:
    may_load = threading.Event()

    def build() -> HoldPolicy:
        assert may_load.wait(_PATIENCE_S)
        return HoldPolicy()

    with (
        running_server(HoldPolicy()) as server,
        grpc.insecure_channel(server.address) as channel,
        wire(server.address) as client,
    ):
        client.reset(seed=0)
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(), timeout=_PATIENCE_S
        )
        assert next(watch).status == _SERVING
        reloading = server.reload(build)
        assert next(watch).status == _NOT_SERVING
        assert _check(channel) == _NOT_SERVING
        assert client.begin_step(make_observation()).result().success
        may_load.set()
        reloading.result(_PATIENCE_S)
        assert next(watch).status == _SERVING
        assert client.begin_step(make_observation()).result().success
        watch.cancel()


def test_draining_gives_up_after_its_grace(make_observation, wire) -> None:
    policy = GatedPolicy(HoldPolicy())
    with running_server(policy) as server, wire(server.address) as client:
        client.reset(seed=0)
        call = client.begin_step(make_observation())
        assert policy.next_batch_size() == 1
        assert not server.drain(grace_s=0.05).result(_PATIENCE_S)
        assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
        policy.let_go()


def test_draining_does_not_forget_the_thread_of_a_policy_that_was_replaced(
    make_observation, wire
) -> None:
    """Whoever calls `drain` would end the process as usual, and Python wait for the thread."""
    policy = GatedPolicy(HoldPolicy())
    with running_server(policy) as server, wire(server.address) as client:
        client.reset(seed=0)
        given_up = client.begin_step(make_observation())
        assert policy.next_batch_size() == 1
        server.reload(HoldPolicy).result(_PATIENCE_S)
        given_up.cancel()
        server.wait_until(lambda running: running.num_in_flight == 0)
        # In the place of the episode with the former policy.
        client.reset(seed=0)
        assert client.begin_step(make_observation()).result().success
        assert not server.drain(grace_s=0.05).result(_PATIENCE_S)
        policy.let_go()


def test_a_replaced_policys_thread_ends_with_its_last_forward_pass(make_observation, wire) -> None:
    policy = GatedPolicy(HoldPolicy())
    others = set(threading.enumerate())
    with running_server(policy) as server, wire(server.address) as client:
        client.reset(seed=0)
        given_up = client.begin_step(make_observation())
        assert policy.next_batch_size() == 1
        begun = set(threading.enumerate()) - others
        (thread,) = [each for each in begun if each.name.startswith("policy_")]
        server.reload(HoldPolicy).result(_PATIENCE_S)
        given_up.cancel()
        server.wait_until(lambda running: running.num_in_flight == 0)
        client.reset(seed=0)
        policy.let_go()
        thread.join(_PATIENCE_S)
        assert not thread.is_alive()


def test_health_of_an_unknown_service(wire) -> None:
    with running_server(HoldPolicy()) as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(grpc.RpcError) as refusal:
            _check(channel, "nonsense")
        assert refusal.value.code() == grpc.StatusCode.NOT_FOUND  # type: ignore[attr-defined]
        watch = health_pb2_grpc.HealthStub(channel).Watch(
            health_pb2.HealthCheckRequest(service="nonsense"), timeout=_PATIENCE_S
        )
        assert next(watch).status == health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
        watch.cancel()


def test_the_client_waits_until_serving_and_no_longer() -> None:
    with _unloaded() as server, PolicyClient(server.address) as client:
        with pytest.raises(PolicyServerUnreachableError):
            client.wait_until_serving(timeout_s=0.1)
        server.load(HoldPolicy).result(_PATIENCE_S)
        client.wait_until_serving(timeout_s=_PATIENCE_S)


def test_reflection_names_every_service() -> None:
    with running_server(HoldPolicy()) as server, grpc.insecure_channel(server.address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        requests = [
            reflection_pb2.ServerReflectionRequest(list_services=""),
            reflection_pb2.ServerReflectionRequest(
                file_containing_symbol="lbm_policy_interface.PolicyStepService"
            ),
        ]
        services, file = stub.ServerReflectionInfo(iter(requests), timeout=_PATIENCE_S)
    assert {service.name for service in services.list_services_response.service} == {
        "assay_policy_interface.PolicySession",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "lbm_policy_interface.GetPolicyMetadataService",
        "lbm_policy_interface.PolicyResetService",
        "lbm_policy_interface.PolicyStepService",
    }
    assert file.file_descriptor_response.file_descriptor_proto


def test_a_second_server_on_the_same_port_is_refused() -> None:
    with running_server(HoldPolicy()) as server:
        second = RunningServer(ServerOptions(address=server.address))
        with pytest.raises(AddressError, match="another program does already"):
            second.start()
        second.close()


@pytest.mark.parametrize(
    ("address", "reason"), [("192.0.2.1:50051", "assign"), ("no.such.host.invalid:1", "cannot")]
)
def test_an_address_of_another_machine_is_refused(address, reason) -> None:
    server = RunningServer(ServerOptions(address=address))
    with pytest.raises(AddressError, match=reason):
        server.start()
    server.close()


@pytest.mark.parametrize("address", ["", "50051", "localhost", ":50051", "localhost:x", "a:70000"])
def test_an_address_that_is_none_is_refused(address) -> None:
    with pytest.raises(AddressError, match="expected HOST:PORT"):
        ServerOptions(address=address)


@pytest.mark.parametrize("option", ["max_batch_size", "max_sessions"])
def test_an_option_out_of_range_is_refused(option) -> None:
    with pytest.raises(OptionError, match=f"{option}: expected at least 1, got 0"):
        ServerOptions(**{option: 0})


def test_ipv6_loopback_works(make_observation) -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("this machine has no IPv6 loopback")
    options = ServerOptions(address="[::1]:0")
    with running_server(HoldPolicy(), options) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        client.step(make_observation())


def test_more_open_loop_steps_than_a_chunk_has_are_refused() -> None:
    server = RunningServer(ServerOptions(address="127.0.0.1:0", open_loop_steps=2))
    server.start()
    with pytest.raises(InvalidPolicyError, match="expected 1 to 1"):
        server.load(HoldPolicy).result(_PATIENCE_S)
    with grpc.insecure_channel(server.address) as channel:
        assert _check(channel) == _NOT_SERVING
    server.close()


def test_a_load_that_fails_leaves_the_server_not_serving() -> None:
    def build() -> HoldPolicy:
        raise MemoryError("no room")

    with _unloaded() as server, grpc.insecure_channel(server.address) as channel:
        with pytest.raises(MemoryError):
            server.load(build).result(_PATIENCE_S)
        assert _check(channel) == _NOT_SERVING
