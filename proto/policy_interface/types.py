"""Observations and actions, as a policy and a robot exchange them.

Everything is validated once, at construction, and immutable after it; arrays are made read-only.

Frames: T is the task frame (`manipuland_table::table_top_center` in LBM Eval), E an arm's
end effector (`panda_link8`), C a camera's optical frame (z forward, x right, y down). `X_TE` is
the pose of E in T.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from policy_interface.deferred_arrays import DeferredArrays, FloatArray

# Orthonormal to within what a float32 round trip and a few compositions leave behind.
_ROTATION_TOLERANCE = 1e-4

_Value = TypeVar("_Value")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class InvalidValueError(ValueError):
    """An observation or an action that cannot be one: wrong shape, not finite, not a rotation."""


def _read_only(array: npt.NDArray[Any]) -> npt.NDArray[Any]:
    view = array.view()
    view.flags.writeable = False
    return view


def _finite(name: str, value: npt.ArrayLike, shape: tuple[int, ...]) -> FloatArray:
    try:
        # A copy, so that nobody who holds the argument can change what was validated.
        array = np.array(value, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InvalidValueError(f"{name}: expected {shape} numbers, got {value!r:.80}") from error
    if array.shape != shape:
        raise InvalidValueError(f"{name}: expected shape {shape}, got {array.shape}")
    if not all(map(math.isfinite, array.ravel().tolist())):
        raise InvalidValueError(f"{name}: expected finite numbers, got {array.tolist()}")
    array.flags.writeable = False
    return array


def _is_finite(numbers: Sequence[float]) -> bool:
    """False also where finite numbers add up to more than a float holds: then look at each."""
    return math.isfinite(sum(numbers))


def _distance_from_rotation(
    a: float, b: float, c: float, d: float, e: float, f: float, g: float, h: float, i: float
) -> float:
    """How far [[a, b, c], [d, e, f], [g, h, i]] is from orthonormal and right-handed.

    The greatest error of an element; the numbers must be finite. In plain numbers: for nine of
    them that is several times faster than numpy.
    """
    return max(
        abs(a * a + b * b + c * c - 1),
        abs(d * d + e * e + f * f - 1),
        abs(a * d + b * e + c * f),
        # The third row is the cross product of the other two, and not its mirror image.
        abs(b * f - c * e - g),
        abs(c * d - a * f - h),
        abs(a * e - b * d - i),
    )


def _frozen(mapping: Mapping[str, _Value]) -> Mapping[str, _Value]:
    return MappingProxyType(dict(mapping))


@dataclass(frozen=True, kw_only=True, eq=False)
class Pose(DeferredArrays):
    """A rigid transform X_AB: rotation (3, 3) and translation_m (3,) of frame B in frame A."""

    rotation: FloatArray
    translation_m: FloatArray

    def __post_init__(self) -> None:
        rotation = _finite("rotation", self.rotation, (3, 3))
        translation_m = _finite("translation_m", self.translation_m, (3,))
        residual = _distance_from_rotation(*rotation.ravel().tolist())
        if residual > _ROTATION_TOLERANCE:
            raise InvalidValueError(
                "rotation: expected an orthonormal, right-handed 3x3 matrix, "
                f"got one that is off by {residual:.3g}: {rotation.tolist()}"
            )
        object.__setattr__(self, "rotation", rotation)
        object.__setattr__(self, "translation_m", translation_m)

    @staticmethod
    def from_numbers(rotation: Sequence[float], translation_m: Sequence[float]) -> Pose:
        """From the 9 numbers of a rotation matrix in row-major order, and the 3 of a translation.

        Checked as any pose is, and several times as fast, as the numbers are no arrays yet.
        """
        if len(rotation) != 9 or len(translation_m) != 3:
            raise InvalidValueError(
                f"expected 3 numbers of translation and 9 of rotation, "
                f"got {len(translation_m)} and {len(rotation)}"
            )
        a, b, c, d, e, f, g, h, i = rotation
        # As _distance_from_rotation has it; a number that is not finite fails a comparison.
        is_sound = (
            -_ROTATION_TOLERANCE <= a * a + b * b + c * c - 1 <= _ROTATION_TOLERANCE
            and -_ROTATION_TOLERANCE <= d * d + e * e + f * f - 1 <= _ROTATION_TOLERANCE
            and -_ROTATION_TOLERANCE <= a * d + b * e + c * f <= _ROTATION_TOLERANCE
            and -_ROTATION_TOLERANCE <= b * f - c * e - g <= _ROTATION_TOLERANCE
            and -_ROTATION_TOLERANCE <= c * d - a * f - h <= _ROTATION_TOLERANCE
            and -_ROTATION_TOLERANCE <= a * e - b * d - i <= _ROTATION_TOLERANCE
            and _is_finite(translation_m)
        )
        if not is_sound:
            # What is wrong with it is said where every pose is checked.
            return Pose(
                rotation=np.reshape(rotation, (3, 3)), translation_m=np.array(translation_m)
            )
        pose = object.__new__(Pose)
        pose.__dict__["_numbers"] = {
            "rotation": tuple(rotation),
            "translation_m": tuple(translation_m),
        }
        return pose

    def to_numbers(self) -> tuple[Sequence[float], Sequence[float]]:
        """What `from_numbers` takes, without making arrays of it."""
        numbers = self.__dict__.get("_numbers")
        if numbers is not None:
            return numbers["rotation"], numbers["translation_m"]
        return self.rotation.ravel().tolist(), self.translation_m.tolist()

    @staticmethod
    def identity() -> Pose:
        return Pose(rotation=np.eye(3), translation_m=np.zeros(3))

    @staticmethod
    def from_matrix(matrix: npt.ArrayLike) -> Pose:
        """From a homogeneous (4, 4) matrix."""
        homogeneous = _finite("matrix", matrix, (4, 4))
        return Pose(rotation=homogeneous[:3, :3], translation_m=homogeneous[:3, 3])

    def matrix(self) -> FloatArray:
        """The homogeneous (4, 4) matrix."""
        homogeneous = np.eye(4)
        homogeneous[:3, :3] = self.rotation
        homogeneous[:3, 3] = self.translation_m
        return homogeneous

    def inverse(self) -> Pose:
        """X_BA from X_AB."""
        rotation = self.rotation.T
        return Pose(rotation=rotation, translation_m=-rotation @ self.translation_m)

    def __matmul__(self, other: Pose) -> Pose:
        """X_AC = X_AB @ X_BC."""
        return Pose(
            rotation=self.rotation @ other.rotation,
            translation_m=self.rotation @ other.translation_m + self.translation_m,
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraView(DeferredArrays):
    """What one camera saw.

    rgb: (H, W, 3) uint8. intrinsics: (3, 3), pixels. X_TC: the optical frame in the task frame.
    depth: (H, W) uint16, or None. label: (H, W) int16, or None.
    """

    rgb: npt.NDArray[np.uint8]
    intrinsics: FloatArray
    X_TC: Pose
    depth: npt.NDArray[np.uint16] | None = None
    label: npt.NDArray[np.int16] | None = None

    def __post_init__(self) -> None:
        rgb = np.asarray(self.rgb)
        if rgb.ndim != 3 or rgb.shape[2] != 3 or rgb.dtype != np.uint8 or 0 in rgb.shape:
            raise InvalidValueError(
                f"rgb: expected (height, width, 3) of uint8, got {rgb.shape} of {rgb.dtype}"
            )
        object.__setattr__(self, "rgb", _read_only(rgb))
        object.__setattr__(self, "intrinsics", _finite("intrinsics", self.intrinsics, (3, 3)))
        for name, dtype in (("depth", np.uint16), ("label", np.int16)):
            image = getattr(self, name)
            if image is None:
                continue
            image = np.asarray(image)
            if image.ndim != 2 or image.dtype != dtype:
                raise InvalidValueError(
                    f"{name}: expected (height, width) of {np.dtype(dtype)}, "
                    f"got {image.shape} of {image.dtype}"
                )
            object.__setattr__(self, name, _read_only(image))

    @staticmethod
    def from_numbers(
        rgb: npt.NDArray[np.uint8], intrinsics: Sequence[float], X_TC: Pose
    ) -> CameraView:
        """From an image and the 9 numbers of its camera's matrix in row-major order.

        Checked as any view is, and several times as fast, as the numbers are no array yet.
        """
        is_sound = (
            rgb.dtype == np.uint8
            and rgb.ndim == 3
            and rgb.shape[2] == 3
            and rgb.size > 0
            and not rgb.flags.writeable
            and len(intrinsics) == 9
            and _is_finite(intrinsics)
        )
        if not is_sound:
            # What is wrong with it is said where every view is checked.
            matrix = np.array(intrinsics)
            if matrix.size == 9:
                matrix = matrix.reshape(3, 3)
            return CameraView(rgb=rgb, intrinsics=matrix, X_TC=X_TC)
        view = object.__new__(CameraView)
        view.__dict__.update(
            rgb=rgb, X_TC=X_TC, depth=None, label=None, _numbers={"intrinsics": tuple(intrinsics)}
        )
        return view


def _vectors(name: str, vectors: Mapping[str, npt.ArrayLike], size: int) -> Mapping[str, Any]:
    if not vectors:
        return _NOTHING
    return _frozen(
        {arm: _finite(f"{name}[{arm!r}]", vector, (size,)) for arm, vector in vectors.items()}
    )


def _widths(widths: Mapping[str, float]) -> Mapping[str, float]:
    return MappingProxyType(
        {
            # What comes off the wire is a float and need not become an array to be checked.
            gripper: width
            if type(width) is float and math.isfinite(width)
            else float(_finite(f"gripper_widths_m[{gripper!r}]", width, ()))
            for gripper, width in widths.items()
        }
    )


# The number of joints of the arms on this wire's stations (Franka Panda).
NUM_ARM_JOINTS = 7

_VECTOR_SIZES = {
    "joint_positions_rad": NUM_ARM_JOINTS,
    "joint_velocities_rad_s": NUM_ARM_JOINTS,
    "joint_torques_nm": NUM_ARM_JOINTS,
    "external_joint_torques_nm": NUM_ARM_JOINTS,
    "wrenches": 6,
    "external_wrenches": 6,
}
_NO_VECTORS: Mapping[str, dict[str, Sequence[float]]] = {name: {} for name in _VECTOR_SIZES}


@dataclass(frozen=True, kw_only=True, eq=False)
class RobotState(DeferredArrays):
    """Every arm and gripper, measured or commanded.

    poses: X_TE by arm. gripper_widths_m: the opening between the fingers by gripper.
    The remaining fields are by arm, may be empty, and hold vectors of 7 joints or of 6
    (wrenches: torque in N m, then force in N).
    """

    poses: Mapping[str, Pose]
    gripper_widths_m: Mapping[str, float]
    joint_positions_rad: Mapping[str, FloatArray] = field(default_factory=dict)
    joint_velocities_rad_s: Mapping[str, FloatArray] = field(default_factory=dict)
    joint_torques_nm: Mapping[str, FloatArray] = field(default_factory=dict)
    external_joint_torques_nm: Mapping[str, FloatArray] = field(default_factory=dict)
    wrenches: Mapping[str, FloatArray] = field(default_factory=dict)
    external_wrenches: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "poses", _frozen(self.poses))
        object.__setattr__(self, "gripper_widths_m", _widths(self.gripper_widths_m))
        for name, size in _VECTOR_SIZES.items():
            object.__setattr__(self, name, _vectors(name, getattr(self, name), size))

    @staticmethod
    def from_numbers(
        poses: Mapping[str, Pose],
        gripper_widths_m: Mapping[str, float],
        vectors: Mapping[str, Mapping[str, Sequence[float]]],
    ) -> RobotState:
        """vectors: the numbers of the other fields, by field and arm.

        Checked as any state is, and several times as fast, as the numbers are no arrays yet.
        """
        numbers: dict[str, dict[str, Sequence[float]]] = {**_NO_VECTORS}
        for name, by_arm in vectors.items():
            size = _VECTOR_SIZES[name]
            numbers[name] = {arm: tuple(vector) for arm, vector in by_arm.items()}
            for vector in by_arm.values():
                if len(vector) != size or not _is_finite(vector):
                    # What is wrong with it is said where every state is checked.
                    return RobotState(
                        poses=poses,
                        gripper_widths_m=gripper_widths_m,
                        **vectors,  # pyright: ignore[reportArgumentType]
                    )
        state = object.__new__(RobotState)
        state.__dict__.update(
            poses=_frozen(poses), gripper_widths_m=_widths(gripper_widths_m), _numbers=numbers
        )
        return state


@dataclass(frozen=True, kw_only=True, eq=False)
class Observation:
    """What a robot or a simulator tells a policy at one control step.

    actual: measured. desired: last commanded. cameras: by semantic name.
    language_instruction: None where there is none, which differs from an empty one.
    time_s: seconds since the episode began, or None where the sender gave none.
    """

    actual: RobotState
    desired: RobotState
    cameras: Mapping[str, CameraView]
    language_instruction: str | None = None
    time_s: float | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", _frozen(self.cameras))
        time_s = self.time_s
        if time_s is not None and not (type(time_s) is float and math.isfinite(time_s)):
            object.__setattr__(self, "time_s", float(_finite("time_s", time_s, ())))


@dataclass(frozen=True, kw_only=True, eq=False)
class Action:
    """What a policy commands for one control step: poses X_TE by arm, widths by gripper."""

    poses: Mapping[str, Pose]
    gripper_widths_m: Mapping[str, float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "poses", _frozen(self.poses))
        object.__setattr__(self, "gripper_widths_m", _widths(self.gripper_widths_m))


@dataclass(frozen=True, kw_only=True, eq=False)
class ChunkGuidance:
    """What a plan should agree with: the chunk that is being executed while it is made.

    actions: that chunk's, from the control step of the plan's newest observation on; possibly
        fewer than the plan will have.
    num_frozen: the first so many are executed whatever the plan says, because it is not there yet.

    Real-time chunking (Black, Galliker and Levine 2025, arXiv 2506.07339).
    """

    actions: Sequence[Action]
    num_frozen: int

    def __post_init__(self) -> None:
        object.__setattr__(self, "actions", tuple(self.actions))
        if not 0 <= self.num_frozen <= len(self.actions):
            raise InvalidValueError(
                f"num_frozen: expected 0 to {len(self.actions)}, the number of actions, "
                f"got {self.num_frozen}"
            )


@dataclass(frozen=True, kw_only=True)
class PolicyMetadata:
    """What a server says of the policy that it serves."""

    name: str
    skill_type: str = "Undefined"
    checkpoint_path: str = ""
    git_repo: str = ""
    git_sha: str = ""
    raw_policy_config: str = ""
    is_language_conditioned: bool = False
    runtime_information: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "runtime_information", _frozen(self.runtime_information))
