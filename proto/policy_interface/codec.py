"""Between the typed values and the messages of LBM Eval's wire.

Decoding treats every message as hostile: whatever is malformed raises InvalidValueError naming the
field. Images are raw pixels unless asked for otherwise, as LBM Eval's client and server send and
expect them; a server of ours takes JPEG and PNG as well.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from types import MappingProxyType
from typing import Any, Literal, NamedTuple

import numpy.typing as npt

from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    PolicyStep_pb2,
)
from policy_interface.images import (
    DEFAULT_JPEG_QUALITY,
    Encoding,
    decode_image,
    encode_image,
)
from policy_interface.types import (
    Action,
    CameraView,
    InvalidValueError,
    Observation,
    PolicyMetadata,
    Pose,
    RobotState,
)

# Ten times what any station has; more is somebody who wants to keep a server busy.
MAX_CAMERAS = 64

# What LBM Eval's encoder writes into PosesAndGrippersActualAndDesired.version.
ROBOT_VERSION = 20241212.0

# LBM Eval's limit, on both sides: 4 cameras at their full size fit with depth and labels.
MAX_MESSAGE_BYTES = 30 * 1024 * 1024

# The optional vectors of an arm: the message's field and the field of RobotState.
_ARM_VECTORS: Mapping[str, str] = {
    "joint_position": "joint_positions_rad",
    "joint_velocity": "joint_velocities_rad_s",
    "joint_torque": "joint_torques_nm",
    "joint_torque_external": "external_joint_torques_nm",
    "wrench": "wrenches",
    "external_wrench": "external_wrenches",
}
_ARM_VECTORS_BY_FIELD: Mapping[Any, str] = {
    PolicyStep_pb2.RobotPoseStatus.DESCRIPTOR.fields_by_name[wire_name]: field_name
    for wire_name, field_name in _ARM_VECTORS.items()
}


def encode_time(time_s: float | None) -> PolicyStep_pb2.Time:
    if time_s is None or time_s < 0:
        return PolicyStep_pb2.Time(sec=-1)
    sec = math.floor(time_s)
    nanosec = round((time_s - sec) * 1e9)
    if nanosec == 1_000_000_000:
        sec, nanosec = sec + 1, 0
    return PolicyStep_pb2.Time(sec=sec, nanosec=nanosec)


def decode_time(message: PolicyStep_pb2.Time) -> float | None:
    """Seconds, or None for a time that the sender marked as absent."""
    if message.sec < 0:
        return None
    return message.sec + message.nanosec * 1e-9


def encode_pose(pose: Pose) -> PolicyStep_pb2.RigidTransform:
    rotation, translation_m = pose.to_numbers()
    return PolicyStep_pb2.RigidTransform(translation=translation_m, rotation=rotation)


def require_few_cameras(message: PolicyStep_pb2.MultiarmObservation) -> None:
    """Raises InvalidValueError for more cameras than a station could have."""
    if len(message.visuo) > MAX_CAMERAS:
        raise InvalidValueError(
            f"observation: expected at most {MAX_CAMERAS} cameras, got {len(message.visuo)}"
        )


class ImageKey(NamedTuple):
    """Which image of an observation."""

    camera: str
    kind: Literal["rgb", "depth", "label"]

    def __str__(self) -> str:
        suffix = "" if self.kind == "rgb" else f", {self.kind}"
        return f"camera {self.camera!r}{suffix}"


def compressed_images(
    message: PolicyStep_pb2.MultiarmObservation,
) -> Iterator[tuple[ImageKey, PolicyStep_pb2.Image]]:
    """The images of a message that take work to decode: what to give to other threads."""
    for camera in message.visuo:
        if camera.camera_rgb.image.compression or camera.has_depth or camera.has_label:
            for key, image in images_of(camera):
                if image.compression != PolicyStep_pb2.NONE:
                    yield key, image


def images_of(
    camera: PolicyStep_pb2.CameraImageSet,
) -> Iterator[tuple[ImageKey, PolicyStep_pb2.Image]]:
    """The images that one camera's message has."""
    name = camera.camera_serial
    if camera.has_rgb:
        yield ImageKey(name, "rgb"), camera.camera_rgb.image
    if camera.has_depth:
        yield ImageKey(name, "depth"), camera.camera_depth.image
    if camera.has_label:
        yield ImageKey(name, "label"), camera.camera_label.image


def _encode_camera(
    name: str,
    view: CameraView,
    stamp: PolicyStep_pb2.Time,
    images: Mapping[ImageKey, PolicyStep_pb2.Image],
) -> PolicyStep_pb2.CameraImageSet:
    def camera_image(kind: Literal["rgb", "depth", "label"]) -> PolicyStep_pb2.CameraImage:
        image = images[ImageKey(name, kind)]
        return PolicyStep_pb2.CameraImage(
            image=image,
            info=PolicyStep_pb2.CameraInfo(
                height=image.height,
                width=image.width,
                distortion_model="plumb_bob",
                k=view.intrinsics.ravel().tolist(),
                header=PolicyStep_pb2.Header(stamp=stamp),
            ),
            pose=encode_pose(view.X_TC),
        )

    message = PolicyStep_pb2.CameraImageSet(
        camera_serial=name, has_rgb=True, camera_rgb=camera_image("rgb")
    )
    if view.depth is not None:
        message.has_depth = True
        message.camera_depth.CopyFrom(camera_image("depth"))
    if view.label is not None:
        message.has_label = True
        message.camera_label.CopyFrom(camera_image("label"))
    return message


def _decode_camera(
    message: PolicyStep_pb2.CameraImageSet, decoded: Mapping[ImageKey, npt.NDArray[Any]]
) -> CameraView:
    try:
        if not message.has_rgb:
            raise InvalidValueError("expected an RGB image, got none (has_rgb is false)")
        rgb = message.camera_rgb
        intrinsics = rgb.info.k[:]
        if len(intrinsics) != 9:
            raise InvalidValueError(f"expected 9 intrinsics, got {len(intrinsics)}")
        key = ImageKey(message.camera_serial, "rgb")
        in_colour = decoded.get(key)
        if in_colour is None:
            in_colour = decode_image(rgb.image, str(key))
        pose = rgb.pose
        X_TC = Pose.from_numbers(pose.rotation[:], pose.translation[:])
        view = CameraView.from_numbers(in_colour, intrinsics, X_TC)
        if not (message.has_depth or message.has_label):
            return view
        return dataclasses.replace(view, **_planes(message, decoded))
    except InvalidValueError as error:
        name = f"camera {message.camera_serial!r}"
        text = str(error)
        raise InvalidValueError(text if text.startswith(name) else f"{name}: {text}") from error


def _planes(
    message: PolicyStep_pb2.CameraImageSet, decoded: Mapping[ImageKey, npt.NDArray[Any]]
) -> dict[str, npt.NDArray[Any]]:
    """The camera's depth and label, (H, W), as far as it has them."""
    planes = {}
    for key, image in images_of(message):
        if key.kind != "rgb":
            pixels = decoded[key] if key in decoded else decode_image(image, str(key))
            if pixels.shape[2] != 1:
                raise InvalidValueError(f"{key}: expected 1 channel, got {pixels.shape[2]}")
            planes[key.kind] = pixels[:, :, 0]
    return planes


def encode_state(state: RobotState, time_s: float | None) -> PolicyStep_pb2.PosesAndGrippers:
    message = PolicyStep_pb2.PosesAndGrippers(timestamp_data=encode_time(time_s))
    for arm, pose in state.poses.items():
        vectors = {}
        for wire_name, field_name in _ARM_VECTORS.items():
            vector = getattr(state, field_name).get(arm)
            if vector is not None:
                vectors[wire_name] = vector.tolist()
        message.pose_status.add(robot_name=arm, pose=encode_pose(pose), **vectors)
    _add_grippers(message, state.gripper_widths_m)
    return message


def _add_grippers(message: PolicyStep_pb2.PosesAndGrippers, widths: Mapping[str, float]) -> None:
    for gripper, width_m in widths.items():
        message.gripper_status.add(gripper_name=gripper, gripper_position=width_m)


def decode_state(message: PolicyStep_pb2.PosesAndGrippers, name: str) -> RobotState:
    poses: dict[str, Pose] = {}
    vectors: dict[str, dict[str, Sequence[float]]] = {}
    for arm in message.pose_status:
        arm_name = arm.robot_name
        _decode_pose(arm, arm_name, poses, name)
        # Asking for each vector in turn would take longer than all that is done with those given.
        for field, value in arm.ListFields():
            field_name = _ARM_VECTORS_BY_FIELD.get(field)
            if field_name is None:
                continue
            vector = value[:]
            # LBM Eval sends wrenches and torques that it does not know as NaN: not given.
            if not (math.isnan(vector[0]) and all(map(math.isnan, vector))):
                vectors.setdefault(field_name, {})[arm_name] = vector
    try:
        return RobotState.from_numbers(poses, _decode_grippers(message, name), vectors)
    except InvalidValueError as error:
        text = str(error)
        raise InvalidValueError(text if text.startswith(name) else f"{name}: {text}") from error


def _decode_poses(message: PolicyStep_pb2.PosesAndGrippers, name: str) -> dict[str, Pose]:
    poses: dict[str, Pose] = {}
    for arm in message.pose_status:
        _decode_pose(arm, arm.robot_name, poses, name)
    return poses


def _decode_pose(
    arm: PolicyStep_pb2.RobotPoseStatus, arm_name: str, poses: dict[str, Pose], name: str
) -> None:
    if arm_name in poses:
        raise _given_twice(name, "arm", arm_name)
    pose = arm.pose
    try:
        poses[arm_name] = Pose.from_numbers(pose.rotation[:], pose.translation[:])
    except InvalidValueError as error:
        raise InvalidValueError(f"{name}, arm {arm_name!r}: {error}") from error


def _decode_grippers(message: PolicyStep_pb2.PosesAndGrippers, name: str) -> dict[str, float]:
    widths: dict[str, float] = {}
    for gripper in message.gripper_status:
        gripper_name = gripper.gripper_name
        if gripper_name in widths:
            raise _given_twice(name, "gripper", gripper_name)
        widths[gripper_name] = gripper.gripper_position
    return widths


def _given_twice(name: str, kind: str, which: str) -> InvalidValueError:
    return InvalidValueError(f"{name}: {kind} {which!r} is given twice")


def encode_observation(
    observation: Observation,
    *,
    encoding: Encoding = "raw",
    quality: int = DEFAULT_JPEG_QUALITY,
    executor: Executor | None = None,
) -> PolicyStep_pb2.MultiarmObservation:
    """encoding: of the RGB images; where it is not raw, depth and labels travel as PNG.

    executor: threads that encode the images, all at once; None for this one.
    """
    time_s = observation.time_s
    plane_encoding: Encoding = "raw" if encoding == "raw" else "png"
    work: list[tuple[ImageKey, npt.NDArray[Any], Encoding]] = []
    for name, view in observation.cameras.items():
        work.append((ImageKey(name, "rgb"), view.rgb, encoding))
        if view.depth is not None:
            work.append((ImageKey(name, "depth"), view.depth, plane_encoding))
        if view.label is not None:
            work.append((ImageKey(name, "label"), view.label, plane_encoding))

    def encoded(
        item: tuple[ImageKey, npt.NDArray[Any], Encoding],
    ) -> tuple[ImageKey, PolicyStep_pb2.Image]:
        key, pixels, chosen = item
        return key, encode_image(pixels, chosen, quality=quality)

    images = dict(map(encoded, work) if executor is None else executor.map(encoded, work))
    stamp = encode_time(time_s)
    return PolicyStep_pb2.MultiarmObservation(
        robot=PolicyStep_pb2.PosesAndGrippersActualAndDesired(
            actual=encode_state(observation.actual, time_s),
            desired=encode_state(observation.desired, time_s),
            version=ROBOT_VERSION,
        ),
        visuo=[
            _encode_camera(name, view, stamp, images)
            for name, view in sorted(observation.cameras.items())
        ],
        use_language_instruction=observation.language_instruction is not None,
        language_instruction=observation.language_instruction or "",
    )


def decode_observation(
    message: PolicyStep_pb2.MultiarmObservation,
    decoded: Mapping[ImageKey, npt.NDArray[Any]] = MappingProxyType({}),
) -> Observation:
    """decoded: images that were decoded already, elsewhere; the others are decoded here.

    Raises InvalidValueError for anything malformed, and MissingCodecError.
    """
    require_few_cameras(message)
    cameras: dict[str, CameraView] = {}
    for camera in message.visuo:
        name = camera.camera_serial
        if name in cameras:
            raise _given_twice("observation", "camera", name)
        cameras[name] = _decode_camera(camera, decoded)
    robot = message.robot
    return Observation(
        actual=decode_state(robot.actual, "actual"),
        desired=decode_state(robot.desired, "desired"),
        cameras=cameras,
        language_instruction=(
            message.language_instruction if message.use_language_instruction else None
        ),
        time_s=decode_time(robot.actual.timestamp_data),
    )


def encode_action(action: Action, time_s: float | None = None) -> PolicyStep_pb2.PosesAndGrippers:
    message = PolicyStep_pb2.PosesAndGrippers()
    fill_action(message, action, time_s)
    return message


def fill_action(
    message: PolicyStep_pb2.PosesAndGrippers, action: Action, time_s: float | None = None
) -> None:
    """As `encode_action`, in a message that has its place already: protobuf copies none of it."""
    message.timestamp_data.CopyFrom(encode_time(time_s))
    for arm, pose in action.poses.items():
        rotation, translation_m = pose.to_numbers()
        encoded = message.pose_status.add(robot_name=arm).pose
        encoded.translation.extend(translation_m)
        encoded.rotation.extend(rotation)
    _add_grippers(message, action.gripper_widths_m)


def decode_action(message: PolicyStep_pb2.PosesAndGrippers) -> Action:
    """Raises InvalidValueError for anything malformed."""
    return Action(
        poses=_decode_poses(message, "action"),
        gripper_widths_m=_decode_grippers(message, "action"),
    )


_METADATA_FIELDS = (
    "name",
    "skill_type",
    "checkpoint_path",
    "git_repo",
    "git_sha",
    "raw_policy_config",
    "is_language_conditioned",
)


def encode_metadata(metadata: PolicyMetadata) -> GetPolicyMetadata_pb2.PolicyMetadata:
    return GetPolicyMetadata_pb2.PolicyMetadata(
        **{name: getattr(metadata, name) for name in _METADATA_FIELDS},
        runtime_information=dict(metadata.runtime_information),
    )


def decode_metadata(message: GetPolicyMetadata_pb2.PolicyMetadata) -> PolicyMetadata:
    return PolicyMetadata(
        **{name: getattr(message, name) for name in _METADATA_FIELDS},
        runtime_information=dict(message.runtime_information),
    )
