"""What malformed and unfitting requests get: a status, and a text that names the field."""

from __future__ import annotations

import math
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from policy_interface.codec import MAX_MESSAGE_BYTES, encode_observation
from policy_interface.contract import Contract, ImageSize, violations
from policy_interface.generated.lbm_policy_interface import PolicyReset_pb2, PolicyStep_pb2
from policy_interface.types import Observation
from policy_server import episodes
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import NoisePolicy, running_server

_SIZE = ImageSize(height=8, width=12)
_CONTRACT = Contract(cameras={"scene_right_0": _SIZE, "wrist_left_plus": _SIZE}, uses_language=True)
_Message = PolicyStep_pb2.MultiarmObservation
_INVALID = grpc.StatusCode.INVALID_ARGUMENT


@pytest.fixture(scope="module")
def server():
    policy = NoisePolicy(chunk_length=4, contract=_CONTRACT)
    with running_server(policy) as running:
        yield running


@pytest.fixture
def client(server, wire):
    with wire(server.address) as one:
        one.reset(seed=0)
        yield one


@pytest.fixture
def good(make_observation) -> Observation:
    return make_observation(0, cameras=dict(_CONTRACT.cameras), instruction="put it there")


def _image(message: _Message) -> PolicyStep_pb2.Image:
    return message.visuo[0].camera_rgb.image


def _break(**changes: object) -> Callable[[_Message], None]:
    def change(message: _Message) -> None:
        for field, value in changes.items():
            setattr(_image(message), field, value)

    return change


def _rotate_wrongly(message: _Message) -> None:
    message.robot.actual.pose_status[0].pose.rotation[0] += 0.1


def _nan_translation(message: _Message) -> None:
    message.robot.desired.pose_status[1].pose.translation[2] = math.nan


def _short_pose(message: _Message) -> None:
    message.robot.actual.pose_status[0].pose.rotation.pop()


def _infinite_width(message: _Message) -> None:
    message.robot.actual.gripper_status[0].gripper_position = math.inf


def _arm_twice(message: _Message) -> None:
    message.robot.actual.pose_status.append(message.robot.actual.pose_status[0])


def _camera_twice(message: _Message) -> None:
    message.visuo.append(message.visuo[0])


def _no_intrinsics(message: _Message) -> None:
    message.visuo[0].camera_rgb.info.ClearField("k")


def _no_rgb(message: _Message) -> None:
    message.visuo[0].has_rgb = False


def _six_joints(message: _Message) -> None:
    message.robot.actual.pose_status[0].joint_position.pop()


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (_break(height=9), "camera 'scene_right_0'"),
        (_break(width=-12), "camera 'scene_right_0'"),
        (_break(channels=0), "camera 'scene_right_0'"),
        (_break(height=2**31 - 1, width=2**31 - 1, channels=2**31 - 1), "camera 'scene_right_0'"),
        (_break(data=b""), "camera 'scene_right_0'"),
        (_break(dtype=9), "unknown dtype 9"),
        (_break(dtype=1), "int8"),
        (_break(compression=1), "corrupt JPEG"),
        (_rotate_wrongly, "actual, arm"),
        (_nan_translation, "desired, arm"),
        (_short_pose, "actual, arm"),
        (_infinite_width, "gripper"),
        (_arm_twice, "given twice"),
        (_camera_twice, "given twice"),
        (_no_intrinsics, "9 intrinsics"),
        (_no_rgb, "camera 'scene_right_0'"),
        (_six_joints, "joint_positions_rad"),
    ],
)
def test_a_malformed_observation_is_refused_and_the_session_goes_on(
    client, good, change, named
) -> None:
    message = encode_observation(good)
    change(message)
    call = client.begin_step(message)
    assert call.code() == _INVALID
    assert named in call.details()
    assert client.begin_step(good).result().success


@pytest.mark.parametrize(
    "change",
    [
        _nan_translation,
        _short_pose,
        _infinite_width,
        _no_rgb,
        _break(height=9),
        _break(dtype=9),
        _break(height=60_000, width=60_000),
    ],
)
def test_it_is_refused_inside_a_chunk_too(client, good, change) -> None:
    assert client.begin_step(good).result().success
    message = encode_observation(good)
    change(message)
    assert client.begin_step(message).code() == _INVALID
    assert client.begin_step(good).result().success


@pytest.mark.parametrize("inside_a_chunk", [False, True])
def test_every_difference_from_the_contract_is_listed(
    client, make_observation, good, inside_a_chunk
) -> None:
    if inside_a_chunk:
        client.begin_step(good).result()
    cameras = {"scene_right_0": ImageSize(height=9, width=12), "wrist_left_pluss": _SIZE}
    call = client.begin_step(make_observation(0, cameras=cameras))
    assert call.code() == _INVALID
    for text in (
        "camera 'scene_right_0': the observation has 12x9, the policy requires 12x8",
        "camera 'wrist_left_plus' missing",
        "['scene_right_0', 'wrist_left_pluss']",
        "language: the policy needs an instruction",
    ):
        assert text in call.details()


def test_inside_a_chunk_the_same_is_said_as_when_planning(client, good) -> None:
    """A step that is not decoded is checked by other code: it must not come to differ."""
    client.begin_step(good).result()
    for arm in ("right", "left"):
        message = encode_observation(good)
        for state in (message.robot.actual, message.robot.desired):
            kept_poses = [each for each in state.pose_status if arm not in each.robot_name]
            kept_grippers = [each for each in state.gripper_status if arm in each.gripper_name]
            del state.pose_status[:], state.gripper_status[:]
            state.pose_status.extend(kept_poses)
            state.gripper_status.extend(kept_grippers)
        message.use_language_instruction = False
        undecoded = client.begin_step(message).details()
        client.reset(seed=0)
        decoded = client.begin_step(message).details()
        client.begin_step(good).result()
        assert undecoded == decoded
        assert undecoded.count("missing") == 4


def test_more_cameras_than_the_policy_looks_at_are_fine(client, make_observation) -> None:
    cameras = {**_CONTRACT.cameras, "scene_left_0": ImageSize(height=3, width=5)}
    observation = make_observation(0, cameras=cameras, instruction="")
    assert not violations(_CONTRACT, observation)
    for _ in range(3):
        assert client.begin_step(observation).result().success


@pytest.mark.parametrize("identifier", ["", "robot", "1234", "1e7fccd0-04f5-4d6d-b60f-25930062cf5"])
def test_an_identifier_that_is_no_uuid_is_refused(server, wire, good, identifier) -> None:
    with wire(server.address) as client:
        client.identifier = identifier
        call = client.begin_step(good)
        assert call.code() == _INVALID
        assert "expected a UUID" in call.details()
        reset = PolicyReset_pb2.PolicyResetRequest(client_identifier=identifier)
        assert client.begin("PolicyReset", reset).code() == _INVALID


@pytest.mark.parametrize("method", ["GetPolicyMetadata", "PolicyReset", "PolicyStep"])
@pytest.mark.parametrize("data", [b"\xff" * 40, b"\x0a\xff", b"\x0a\x05ab"])
def test_bytes_that_are_no_message_are_refused(server, wire, method, data) -> None:
    with wire(server.address) as client:
        call = client.begin(method, data)
        assert call.code() == _INVALID
        assert f"{method}Request" in call.details()


def test_an_empty_message_is_a_request_with_nothing_in_it(server, wire) -> None:
    with wire(server.address) as client:
        assert client.begin("PolicyStep", b"").code() == _INVALID
        assert client.begin("GetPolicyMetadata", b"").result().success


def test_an_observation_with_nothing_in_it_breaks_the_contract(client) -> None:
    call = client.begin_step(_Message())
    assert call.code() == _INVALID
    assert call.details().count("missing") == 2 + 2 * 4


def test_a_message_over_30_mib_is_refused_and_one_below_is_not(wire, make_observation) -> None:
    with running_server(HoldPolicy()) as server, wire(server.address) as client:
        client.reset(seed=0)
        large = ImageSize(height=3000, width=3480)  # 29.9 MiB of RGB
        observation = make_observation(0, cameras={"scene_right_0": large})
        assert client.begin_step(observation).result().success
        oversized = b"\x00" * (MAX_MESSAGE_BYTES + 1)
        assert client.begin("PolicyStep", oversized).code() == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert client.begin_step(observation).result().success


def test_a_long_detail_is_cut(client, make_observation) -> None:
    name = "a camera with a long name " * 10
    cameras = {f"{name} {index}": ImageSize(height=1, width=1) for index in range(64)}
    call = client.begin_step(make_observation(0, cameras=cameras))
    assert call.code() == _INVALID
    assert call.details().endswith("characters in all)")
    assert len(call.details()) < 2200


def test_times_that_nobody_gave_are_accepted(client, make_observation, good) -> None:
    """LBM Eval marks an unknown time with -1 seconds."""
    message = encode_observation(good)
    message.robot.actual.timestamp_data.sec = -1
    message.robot.desired.ClearField("timestamp_data")
    assert client.begin_step(message).result().success


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_compressed_images_are_as_good_as_raw_ones(client, good, encoding) -> None:
    for _ in range(6):
        message = encode_observation(good, encoding=encoding)
        assert client.begin_step(message).result().success


def _declared(
    height: int, width: int, channels: int, dtype: PolicyStep_pb2.ImageDtype
) -> PolicyStep_pb2.Image:
    """A PNG of which nothing but its size is told."""
    return PolicyStep_pb2.Image(
        height=height,
        width=width,
        channels=channels,
        dtype=dtype,
        compression=PolicyStep_pb2.PNG,
    )


def _never_decoded(image: PolicyStep_pb2.Image, name: str) -> None:
    raise AssertionError(f"{name} was decoded")


def test_images_that_would_take_gigabytes_are_refused_undecoded(
    client, make_observation, good, monkeypatch
) -> None:
    """One colour takes a thousandth of its pixels' bytes as PNG: 7 MB of them were 400 MB each."""
    cameras = {str(index): _SIZE for index in range(8)}
    message = encode_observation(make_observation(0, cameras=cameras))
    for camera in message.visuo:
        camera.camera_rgb.image.CopyFrom(_declared(4096, 4096, 3, PolicyStep_pb2.DTYPE_UINT8))
    # What claims to be smaller than nothing makes no room for others.
    lessened = encode_observation(good, encoding="png")
    lessened.visuo.extend(message.visuo)
    lessened.visuo[0].camera_rgb.image.height = -(2**31)
    for each, named in ((message, "402653184 bytes"), (lessened, "camera 'scene_right_0'")):
        with monkeypatch.context() as patch:
            patch.setattr(episodes, "decode_image", _never_decoded)
            call = client.begin_step(each)
            assert call.code() == _INVALID
            assert named in call.details()
    assert client.begin_step(good).result().success


def test_four_cameras_of_four_megapixels_with_depth_and_labels_are_not_too_much(
    client, make_observation, monkeypatch
) -> None:
    cameras = {str(index): _SIZE for index in range(4)}
    message = encode_observation(make_observation(0, cameras=cameras))
    for camera in message.visuo:
        camera.camera_rgb.image.CopyFrom(_declared(2048, 2048, 3, PolicyStep_pb2.DTYPE_UINT8))
        camera.has_depth = camera.has_label = True
        camera.camera_depth.image.CopyFrom(_declared(2048, 2048, 1, PolicyStep_pb2.DTYPE_UINT16))
        camera.camera_label.image.CopyFrom(_declared(2048, 2048, 1, PolicyStep_pb2.DTYPE_INT16))
    decoded = []

    def decode(image: PolicyStep_pb2.Image, name: str) -> np.ndarray:
        decoded.append(name)
        pixel = {
            PolicyStep_pb2.DTYPE_UINT8: np.uint8,
            PolicyStep_pb2.DTYPE_UINT16: np.uint16,
            PolicyStep_pb2.DTYPE_INT16: np.int16,
        }[image.dtype](0)
        return np.broadcast_to(pixel, (image.height, image.width, image.channels))

    monkeypatch.setattr(episodes, "decode_image", decode)
    # They are other cameras than the policy's, which is said of what was decoded.
    assert "camera 'scene_right_0' missing" in client.begin_step(message).details()
    assert len(decoded) == 12


@pytest.mark.parametrize("inside_a_chunk", [False, True])
def test_no_station_has_a_hundred_cameras(client, make_observation, good, inside_a_chunk) -> None:
    if inside_a_chunk:
        client.begin_step(good).result()
    cameras = {str(index): ImageSize(height=1, width=1) for index in range(100)}
    call = client.begin_step(make_observation(0, cameras=cameras))
    assert call.code() == _INVALID
    assert "at most 64 cameras, got 100" in call.details()


def test_a_hundred_cameras_are_refused_undecoded(client, make_observation, monkeypatch) -> None:
    cameras = {str(index): ImageSize(height=1, width=1) for index in range(100)}
    message = encode_observation(make_observation(0, cameras=cameras), encoding="png")
    monkeypatch.setattr(episodes, "decode_image", _never_decoded)
    call = client.begin_step(message)
    assert call.code() == _INVALID
    assert "at most 64 cameras, got 100" in call.details()


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_corrupt_header_is_refused_inside_a_chunk_too(client, good, encoding) -> None:
    client.begin_step(good).result()
    for damage in ({"data": b"no image"}, {"height": 9}):
        message = encode_observation(good, encoding=encoding)
        _break(**damage)(message)
        call = client.begin_step(message)
        assert call.code() == _INVALID
        assert "camera 'scene_right_0'" in call.details()
    assert client.begin_step(encode_observation(good, encoding=encoding)).result().success


@pytest.mark.parametrize("encoding", ["jpeg", "png"])
def test_a_corrupt_compressed_image_is_refused_and_disturbs_nobody(
    server, wire, client, good, encoding
) -> None:
    message = encode_observation(good, encoding=encoding)
    _image(message).data = _image(message).data[:40]
    with wire(server.address) as bystander:
        bystander.reset(seed=1)
        for _ in range(5):
            corrupt, sound = client.begin_step(message), bystander.begin_step(good)
            assert sound.result().success
            assert corrupt.code() == _INVALID
            assert "camera 'scene_right_0': corrupt" in corrupt.details()
    assert client.begin_step(good).result().success
