"""Both clients against a plain gRPC server: one channel, deadlines, errors that say why."""

from __future__ import annotations

import pickle
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from policy_interface.client import (
    PolicyClient,
    PolicyServerError,
    PolicyServerRefusedError,
    PolicyServerUnreachableError,
)
from policy_interface.client_errors import (
    BusyError,
    CallCancelledError,
    DeadlineError,
    InvalidRequestError,
    MalformedAnswerError,
    MessageTooLargeError,
    NoEpisodeError,
    NotAuthorizedError,
    OverloadedError,
    PolicyFailureError,
    StationMismatchError,
    UnavailableError,
    UnknownPolicyError,
    UnsupportedError,
)
from policy_interface.client_options import RetryPolicy
from policy_interface.contract import Contract, ImageSize
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2
from policy_interface.types import InvalidValueError
from tests.loopback_port import held_port

_PATIENCE_S = 60.0

ONCE = RetryPolicy(max_tries=1)


@pytest.fixture
def nobody() -> Iterator[str]:
    """An address at which nobody listens, unless a test has a server do so."""
    with held_port() as port:
        yield f"127.0.0.1:{port}"


def test_an_episode_is_one_identifier_on_one_channel(connect, server, make_observation) -> None:
    observation = make_observation()
    with connect(server.address) as client:
        assert client.metadata().name == "hold"
        assert client.contract() == server.contract
        for seed in (7, 8):
            client.reset(seed=seed)
            for _ in range(3):
                action = client.step(observation)
        assert client.end_episode()
    for arm, pose in observation.actual.poses.items():
        assert np.array_equal(action.poses[arm].matrix(), pose.matrix())
    (first, second) = server.requests("PolicyReset")
    assert (first.seed, second.seed) == (7, 8)
    identifiers = [step.client_identifier for step in server.requests("PolicyStep")]
    assert identifiers == [first.client_identifier] * 3 + [second.client_identifier] * 3
    assert first.client_identifier != second.client_identifier
    (ended,) = server.requests("EndEpisode")
    assert ended.client_identifier == second.client_identifier
    assert len({seen.peer for seen in server.seen}) == 1


def test_steps_are_numbered_by_the_answers_before_them(connect, server, make_observation) -> None:
    with connect(server.address, retries=ONCE) as client:
        client.reset(seed=0)
        client.step(make_observation())
        server.refuse("PolicyStep", grpc.StatusCode.UNAVAILABLE)
        with pytest.raises(UnavailableError):
            client.step(make_observation())
        client.step(make_observation())
        client.step(make_observation())
        client.reset(seed=0)
        client.step(make_observation())
    numbers = [step.control_step for step in server.requests("PolicyStep")]
    assert numbers == [0, 1, 1, 2, 0]


def test_a_chunk_says_what_is_to_follow_and_when(connect, server, make_observation) -> None:
    observation = make_observation()
    with connect(server.address) as client:
        client.reset(seed=0)
        client.step(observation)
        chunk = client.step_chunk(observation)
    assert len(chunk.actions) == 3
    assert (chunk.first_control_step, chunk.planned_from_step, chunk.next_plan_step) == (1, 1, 3)
    assert chunk.control_rate_hz == 10.0
    assert chunk.timing.inference_s == 0.25
    assert chunk.action_at(0) is None
    assert chunk.action_at(3) is chunk.actions[2]
    assert chunk.action_at(4) is None


def test_a_robot_may_go_on_along_a_chunk_by_itself(connect, server, make_observation) -> None:
    observation = make_observation()
    with connect(server.address) as client:
        client.reset(seed=0)
        client.step_chunk(observation)
        client.step_chunk(observation, control_step=8)
        client.step_chunk(observation)
    assert [step.control_step for step in server.requests("PolicyStep")] == [0, 8, 9]


def test_a_chunk_that_is_none_is_refused(connect, server, make_observation) -> None:
    response = PolicyStep_pb2.PolicyStepResponse(
        success=True, chunk=PolicyStep_pb2.ActionChunk(control_rate_hz=10)
    )
    server.answer("PolicyStep", response.SerializeToString())
    with connect(server.address) as client, pytest.raises(InvalidValueError, match="chunk"):
        client.step_chunk(make_observation())


def test_a_foreign_server_takes_the_wire_and_no_more(
    connect, foreign_server, make_observation
) -> None:
    observation = make_observation()
    with connect(foreign_server.address) as client:
        assert client.contract() is None
        client.reset(seed=3)
        client.step(observation)
        assert not client.end_episode()
        with pytest.raises(UnsupportedError, match="one action at a time"):
            client.step_chunk(observation)
        with pytest.raises(UnsupportedError):
            client.handshake()
        with pytest.raises(UnsupportedError), client.episode(seed=0):
            pass


def test_a_handshake_lists_every_difference(connect, server) -> None:
    small = Contract(cameras={"scene_right_0": ImageSize(height=4, width=4)}, control_rate_hz=50.0)
    with connect(server.address) as client:
        met = client.handshake(small)
        assert client.handshake().differences == ()
        assert client.handshake(server.contract).differences == ()
    assert met.policy_contract == server.contract
    assert met.metadata.name == "hold"
    assert met.policy_names == ("hold", "wave")
    assert len(met.differences) == 2
    assert "scene_right_0" in met.differences[0]
    assert "50.0" in met.differences[1]


def test_the_policy_and_the_station_go_with_the_reset(connect, server) -> None:
    with connect(server.address, policy="wave") as client:
        client.reset(seed=1, station_contract=server.contract)
        client.metadata()
    (reset,) = server.requests("PolicyReset")
    assert reset.policy == "wave"
    assert Contract.from_json(reset.station_contract) == server.contract
    assert all(seen.metadata["assay-policy"] == "wave" for seen in server.seen)


@pytest.mark.parametrize("asked", ["policy", "contract"])
def test_a_foreign_server_is_not_trusted_to_check(connect, foreign_server, asked) -> None:
    policy, contract = ("wave", None) if asked == "policy" else (None, foreign_server.contract)
    with (
        connect(foreign_server.address, policy=policy) as client,
        pytest.raises(UnsupportedError, match="reset without them"),
    ):
        client.reset(seed=1, station_contract=contract)
    assert not foreign_server.requests("PolicyReset")


def test_clients_that_wait_stop_no_server_of_grpcios(connect) -> None:
    server = grpc.server(ThreadPoolExecutor(16))
    health_pb2_grpc.add_HealthServicer_to_server(health.HealthServicer(), server)
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()

    def wait(_: int) -> None:
        with connect(address) as client:
            client.wait_until_serving(timeout_s=_PATIENCE_S)

    with ThreadPoolExecutor(4) as clients:
        # Four that watched, and left, at once: a deadlock of its two threads within a few.
        list(clients.map(wait, range(40)))
    server.stop(None)


def test_a_server_that_serves_is_not_watched(connect, server) -> None:
    with connect(server.address) as client:
        client.wait_until_serving(timeout_s=_PATIENCE_S)
    assert not server.health.watched.is_set()


def test_waiting_ends_when_the_server_serves(connect, server) -> None:
    status = health_pb2.HealthCheckResponse
    server.health.set("", status.NOT_SERVING)
    loaded = threading.Thread(
        target=lambda: (
            server.health.watched.wait(_PATIENCE_S),
            server.health.set("", status.SERVING),
        )
    )
    loaded.start()
    with connect(server.address) as client:
        client.wait_until_serving(timeout_s=_PATIENCE_S)
    loaded.join()
    # A watch that goes while another is told something can stop a server of grpcio's for good.
    assert server.health.checked_while_watched == [True]


def test_waiting_begins_before_the_server_does(connect, nobody, make_server) -> None:
    started = []

    def start(pause_s: float) -> None:
        if not started:
            started.append(make_server(address=nobody))

    with connect(nobody, sleep=start) as client:
        client.wait_until_serving(timeout_s=_PATIENCE_S)
    assert started


def test_a_server_that_never_serves_is_reported(connect, server) -> None:
    server.health.set("", health_pb2.HealthCheckResponse.NOT_SERVING)
    with (
        connect(server.address) as client,
        pytest.raises(PolicyServerUnreachableError, match="is there.*DEADLINE_EXCEEDED"),
    ):
        client.wait_until_serving(timeout_s=1)


def test_waiting_for_nobody_says_why_there_is_no_connection(connect, nobody) -> None:
    with (
        connect(nobody) as client,
        pytest.raises(UnavailableError, match="Connection refused"),
    ):
        client.wait_until_serving(timeout_s=1)


def test_a_server_that_cannot_be_watched_is_asked(connect, make_server) -> None:
    server = make_server(can_watch=False)
    status = health_pb2.HealthCheckResponse
    server.health.set("", status.NOT_SERVING)
    pauses = []

    def load(pause_s: float) -> None:
        pauses.append(pause_s)
        if len(pauses) == 3:
            server.health.set("", status.SERVING)

    with connect(server.address, sleep=load) as client:
        client.wait_until_serving(timeout_s=_PATIENCE_S)
    assert len(pauses) == 3


def test_no_server_is_reported_with_its_address(connect, nobody) -> None:
    with connect(nobody) as client, pytest.raises(UnavailableError, match=nobody):
        client.metadata()


def test_a_silent_server_meets_the_deadline(connect, server, make_observation) -> None:
    server.release.clear()
    with (
        connect(server.address, timeout_s=1) as client,
        pytest.raises(DeadlineError, match=r"PolicyStep.*DEADLINE_EXCEEDED") as caught,
    ):
        client.step(make_observation())
    assert caught.value.status is grpc.StatusCode.DEADLINE_EXCEEDED
    assert server.stepping.wait(_PATIENCE_S)
    assert len(server.requests("PolicyStep")) == 1


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (grpc.StatusCode.CANCELLED, CallCancelledError),
        (grpc.StatusCode.UNKNOWN, PolicyFailureError),
        (grpc.StatusCode.INVALID_ARGUMENT, InvalidRequestError),
        (grpc.StatusCode.DEADLINE_EXCEEDED, DeadlineError),
        (grpc.StatusCode.NOT_FOUND, UnknownPolicyError),
        (grpc.StatusCode.ALREADY_EXISTS, PolicyServerRefusedError),
        (grpc.StatusCode.PERMISSION_DENIED, NotAuthorizedError),
        (grpc.StatusCode.UNAUTHENTICATED, NotAuthorizedError),
        (grpc.StatusCode.RESOURCE_EXHAUSTED, OverloadedError),
        (grpc.StatusCode.FAILED_PRECONDITION, NoEpisodeError),
        (grpc.StatusCode.ABORTED, BusyError),
        (grpc.StatusCode.OUT_OF_RANGE, InvalidRequestError),
        (grpc.StatusCode.UNIMPLEMENTED, UnsupportedError),
        (grpc.StatusCode.INTERNAL, PolicyFailureError),
        (grpc.StatusCode.UNAVAILABLE, UnavailableError),
        (grpc.StatusCode.DATA_LOSS, PolicyFailureError),
    ],
)
def test_each_status_is_an_error_of_its_own(
    connect, server, make_observation, status, kind
) -> None:
    server.refuse("PolicyStep", status, "camera 'x' missing")
    with connect(server.address, retries=ONCE) as client, pytest.raises(PolicyServerError) as said:
        client.step(make_observation())
    error = said.value
    assert type(error) is kind
    assert error.status is status
    assert "PolicyStep" in str(error)
    assert f"{status.name}" in str(error)
    assert "camera 'x' missing" in str(error)
    is_unreachable = kind in (UnavailableError, DeadlineError, CallCancelledError)
    assert isinstance(error, PolicyServerUnreachableError) is is_unreachable
    assert isinstance(error, PolicyServerRefusedError) is not is_unreachable


def test_an_error_says_what_the_server_says_of_it(connect, server, make_observation) -> None:
    detail = PolicySession_pb2.ErrorDetail(
        reason="missing_camera",
        field="observation.visuo[scene_left_0]",
        message="camera 'scene_left_0' missing",
        retry_after_ms=-1,
        session="7f",
        control_step=12,
    )
    server.refuse(
        "PolicyStep",
        grpc.StatusCode.INVALID_ARGUMENT,
        "",
        [("assay-error-bin", detail.SerializeToString())],
    )
    with connect(server.address) as client, pytest.raises(InvalidRequestError) as caught:
        client.step(make_observation())
    # A worker process hands it to its parent.
    for error in (caught.value, pickle.loads(pickle.dumps(caught.value))):  # noqa: S301
        assert "camera 'scene_left_0' missing" in str(error)
        assert error.reason == "missing_camera"
        assert error.field == "observation.visuo[scene_left_0]"
        assert (error.session, error.control_step) == ("7f", 12)
        assert error.retry_after_s is None
        assert error.is_final


def test_a_station_that_does_not_fit_is_told_from_a_missing_episode(connect, server) -> None:
    detail = PolicySession_pb2.ErrorDetail(reason="station_mismatch")
    server.refuse(
        "PolicyReset",
        grpc.StatusCode.FAILED_PRECONDITION,
        "camera missing",
        [("assay-error-bin", detail.SerializeToString())],
    )
    with connect(server.address) as client, pytest.raises(StationMismatchError, match="camera"):
        client.reset(seed=0, station_contract=server.contract)


@pytest.mark.parametrize(
    "metadata",
    [
        [("assay-error-bin", b"\xff\xff\xff")],
        [("assay-error-bin", b"")],
        [("assay-error", "text")],
        [("grpc-retry-pushback-ms", "soon")],
    ],
)
def test_a_detail_that_is_none_hides_no_error(connect, server, metadata, make_observation) -> None:
    server.refuse("PolicyStep", grpc.StatusCode.RESOURCE_EXHAUSTED, "full", metadata)
    with connect(server.address) as client, pytest.raises(OverloadedError, match="full") as caught:
        client.step(make_observation())
    assert caught.value.retry_after_s is None
    assert caught.value.reason == ""


def test_an_answer_without_success_is_a_refusal(connect, server) -> None:
    server.answer(
        "PolicyReset", PolicyReset_pb2.PolicyResetResponse().SerializeToString() or b"\x10\x00"
    )
    with (
        connect(server.address) as client,
        pytest.raises(PolicyServerRefusedError, match="PolicyReset with success = false"),
    ):
        client.reset(seed=0)


def test_bytes_that_are_no_answer_are_reported(connect, server, make_observation) -> None:
    server.answer("PolicyStep", b"\xff\xff\xff")
    with connect(server.address) as client, pytest.raises(MalformedAnswerError, match="3 bytes"):
        client.step(make_observation())


def test_an_answer_that_is_no_action_is_reported(connect, server, make_observation) -> None:
    response = PolicyStep_pb2.PolicyStepResponse(success=True)
    response.action.pose_status.add(robot_name="right::panda")
    server.answer("PolicyStep", response.SerializeToString())
    with connect(server.address) as client, pytest.raises(InvalidValueError, match="right::panda"):
        client.step(make_observation())


def test_a_request_over_the_limit_is_no_overload(connect, server, make_observation) -> None:
    cameras = {"scene_right_0": ImageSize(height=100, width=100)}
    with (
        connect(server.address, max_message_bytes=20_000) as client,
        pytest.raises(MessageTooLargeError, match="larger than max"),
    ):
        client.step(make_observation(cameras=cameras))


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_images_travel_as_asked(connect, server, make_observation, encoding) -> None:
    cameras = {name: ImageSize(height=8, width=12) for name in ("scene_right_0", "wrist")}
    observation = make_observation(cameras=cameras)
    with connect(server.address, encoding=encoding, quality=90) as client:
        client.reset(seed=0)
        client.step(observation)
    (request,) = server.requests("PolicyStep")
    kind = PolicyStep_pb2.JPG if encoding == "jpeg" else PolicyStep_pb2.PNG
    assert [camera.camera_rgb.image.compression for camera in request.observation.visuo] == [
        kind,
        kind,
    ]


def test_closing_ends_a_pause_between_two_tries(server) -> None:
    server.refuse("GetPolicyMetadata", grpc.StatusCode.UNAVAILABLE)
    an_hour = RetryPolicy(initial_pause_s=3600, max_pause_s=3600)
    client = PolicyClient(server.address, timeout_s=10_000, retries=an_hour)
    errors = []

    def ask() -> None:
        try:
            client.metadata()
        except PolicyServerError as error:
            errors.append(error)

    asking = threading.Thread(target=ask)
    asking.start()
    assert server.called.wait(_PATIENCE_S)
    client.close()
    asking.join(_PATIENCE_S)
    (error,) = errors
    assert isinstance(error, CallCancelledError)
