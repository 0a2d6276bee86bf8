"""The wire is LBM Eval's, round trips are exact, and hostile messages only raise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from policy_interface import codec, images
from policy_interface.contract import RIGHT_ARM, ImageSize
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyReset_pb2,
    PolicyStep_pb2,
)
from policy_interface.types import (
    Action,
    InvalidValueError,
    Observation,
    PolicyMetadata,
    RobotState,
)

# Message, field, number: read off LBM Eval v1.1.0's own descriptors.
WIRE = """
Time sec=1 nanosec=2
Image height=1 width=2 channels=3 data=4 dtype=5 compression=6
Header stamp=1
CameraInfo height=1 width=2 distortion_model=3 k=4 header=5
RigidTransform translation=1 rotation=2
CameraImage image=1 info=2 pose=3
CameraImageSet camera_serial=1 has_rgb=2 has_depth=3 has_label=4 camera_rgb=5 camera_depth=6 \
camera_label=7
RobotPoseStatus robot_name=1 pose=2 wrench=3 external_wrench=4 joint_position=5 joint_velocity=6 \
joint_torque=7 joint_torque_external=8
RobotGripperStatus gripper_name=1 gripper_position=2
PosesAndGrippers pose_status=1 gripper_status=2 timestamp_data=3 timestamp_sent=4 \
timestamp_received=5
PosesAndGrippersActualAndDesired actual=1 desired=2 version=3
MultiarmObservation robot=1 visuo=2 version=3 use_language_instruction=4 language_instruction=5
PolicyStepRequest client_identifier=1 observation=2
PolicyStepResponse success=1 action=2
PolicyResetRequest client_identifier=1 seed=2
PolicyResetResponse success=1
PolicyMetadata name=1 skill_type=2 checkpoint_path=3 git_repo=4 git_sha=5 raw_policy_config=6 \
is_language_conditioned=7 runtime_information=8
GetPolicyMetadataRequest client_identifier=1
GetPolicyMetadataResponse success=1 policy_metadata=2
"""


@pytest.mark.parametrize("line", WIRE.strip().splitlines())
def test_field_numbers_are_those_of_lbm_eval(line: str) -> None:
    name, *fields = line.split()
    modules = (PolicyStep_pb2, PolicyReset_pb2, GetPolicyMetadata_pb2)
    message = next(getattr(m, name) for m in modules if hasattr(m, name))
    assert message.DESCRIPTOR.full_name == f"lbm_policy_interface.{name}"
    ours = {f.name: f.number for f in message.DESCRIPTOR.fields if f.number < 100}
    assert ours == {key: int(number) for key, number in (field.split("=") for field in fields)}


def assert_same_state(one: RobotState, other: RobotState) -> None:
    assert one.poses.keys() == other.poses.keys()
    for arm, pose in one.poses.items():
        assert np.array_equal(pose.matrix(), other.poses[arm].matrix())
        assert np.array_equal(one.joint_positions_rad[arm], other.joint_positions_rad[arm])
    assert one.gripper_widths_m == other.gripper_widths_m


def through_the_wire(observation: Observation) -> Observation:
    data = codec.encode_observation(observation).SerializeToString()
    return codec.decode_observation(PolicyStep_pb2.MultiarmObservation.FromString(data))


@pytest.mark.parametrize("instruction", [None, "", "Put the mug on the saucer."])
def test_an_observation_arrives_as_it_was_sent(make_observation, instruction) -> None:
    sizes = {"scene_left_0": ImageSize(height=6, width=8), "b": ImageSize(height=3, width=5)}
    sent = make_observation(seed=3, cameras=sizes, instruction=instruction, time_s=1.3)
    got = through_the_wire(sent)
    assert_same_state(got.actual, sent.actual)
    assert_same_state(got.desired, sent.desired)
    assert got.language_instruction == instruction
    assert got.time_s == pytest.approx(1.3, abs=1e-9)
    assert got.cameras.keys() == sent.cameras.keys()
    for name, view in sent.cameras.items():
        assert np.array_equal(got.cameras[name].rgb, view.rgb)
        assert np.array_equal(got.cameras[name].intrinsics, view.intrinsics)
        assert np.array_equal(got.cameras[name].X_TC.matrix(), view.X_TC.matrix())


@given(st.one_of(st.none(), st.floats(0, 1e8)))
def test_a_time_arrives_to_the_nanosecond(time_s: float | None) -> None:
    got = codec.decode_time(codec.encode_time(time_s))
    assert got == (None if time_s is None else pytest.approx(time_s, abs=1e-7))


def test_wrenches_of_nan_are_wrenches_not_given(make_observation) -> None:
    # LBM Eval sends desired torques and wrenches as NaN.
    message = codec.encode_observation(make_observation())
    message.robot.desired.pose_status[0].wrench.extend([float("nan")] * 6)
    assert RIGHT_ARM not in codec.decode_observation(message).desired.wrenches


def test_an_action_arrives_as_it_was_sent(make_observation) -> None:
    state = make_observation(seed=5).actual
    sent = Action(poses=state.poses, gripper_widths_m=state.gripper_widths_m)
    got = codec.decode_action(codec.encode_action(sent))
    assert got.gripper_widths_m == sent.gripper_widths_m
    for arm, pose in sent.poses.items():
        assert np.array_equal(got.poses[arm].matrix(), pose.matrix())


def test_metadata_arrives_as_it_was_sent() -> None:
    sent = PolicyMetadata(
        name="p", git_sha="abc", is_language_conditioned=True, runtime_information={"a": "b"}
    )
    assert codec.decode_metadata(codec.encode_metadata(sent)) == sent


def break_rotation(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.robot.actual.pose_status[0].pose.rotation[0] = 5.0


def break_rotation_size(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.robot.actual.pose_status[0].pose.rotation.append(0.0)


def break_data(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].camera_rgb.image.data = b"short"


def break_size(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].camera_rgb.image.height = -8


def break_huge_size(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].camera_rgb.image.height = 2**31 - 1


def break_dtype(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].camera_rgb.image.dtype = 77


def break_compression(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].camera_rgb.image.compression = PolicyStep_pb2.JPG


def break_rgb(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].has_rgb = False


def break_intrinsics(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].camera_rgb.info.k.pop()


def break_depth(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo[0].has_depth = True
    m.visuo[0].camera_depth.CopyFrom(m.visuo[0].camera_rgb)


def break_width(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.robot.actual.gripper_status[0].gripper_position = float("inf")


def break_joints(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.robot.actual.pose_status[0].joint_position.append(1.0)


def break_names(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.robot.actual.pose_status[1].robot_name = m.robot.actual.pose_status[0].robot_name


def break_cameras(m: PolicyStep_pb2.MultiarmObservation) -> None:
    m.visuo.add().CopyFrom(m.visuo[0])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (break_rotation, r"actual, arm 'right::panda'.*orthonormal"),
        (break_rotation_size, "9 of rotation, got 3 and 10"),
        (break_data, r"camera 'scene_right_0'.*takes 288 bytes, got 5"),
        (break_size, "positive height"),
        (break_huge_size, "more than the 16777216 pixels allowed"),
        (break_dtype, "unknown dtype 77"),
        (break_compression, "corrupt JPEG"),
        (break_rgb, "got none"),
        (break_intrinsics, "9 intrinsics, got 8"),
        (break_depth, "1 channel, got 3"),
        (break_width, "gripper_widths_m"),
        (break_joints, "joint_positions_rad"),
        (break_names, "given twice"),
        (break_cameras, "camera 'scene_right_0' is given twice"),
    ],
)
def test_a_malformed_observation_is_refused_by_name(make_observation, damage, complaint) -> None:
    message = codec.encode_observation(make_observation())
    damage(message)
    with pytest.raises(InvalidValueError, match=complaint):
        codec.decode_observation(message)


@settings(max_examples=200)
@given(data=st.data())
def test_a_message_with_flipped_bytes_decodes_or_is_refused(make_observation, data) -> None:
    encoded = bytearray(codec.encode_observation(make_observation()).SerializeToString())
    for _ in range(data.draw(st.integers(1, 4))):
        encoded[data.draw(st.integers(0, len(encoded) - 1))] = data.draw(st.integers(0, 255))
    try:
        message = PolicyStep_pb2.MultiarmObservation.FromString(bytes(encoded))
    except Exception:  # noqa: BLE001 - protobuf's own refusal, before our code
        return
    with np.errstate(all="ignore"):
        try:
            codec.decode_observation(message)
        except InvalidValueError:
            return


def test_images_of_two_bytes_travel_little_endian() -> None:
    depth = np.array([[1, 256]], dtype=">u2")
    message = images.encode_image(depth)
    assert message.data == b"\x01\x00\x00\x01"
    assert np.array_equal(images.decode_image(message, "depth")[:, :, 0], depth)
