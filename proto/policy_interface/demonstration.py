"""A recorded demonstration, and the file that holds it.

One `.npz` file an episode: a zip of plain numpy arrays, read without pickle, that explains itself.
Images are stored losslessly, so that a policy trains on the very pixels that it will be served.
A folder of such files is a data set. Files are written aside and renamed: a reader never
sees half of one.

Arrays, T being the number of control steps (all poses X_TE, metres and radians):

    metadata                                 () str    JSON: schema, task, seed, contract, ...
    time_s                                   (T,)      float64, since the episode began
    {actual,desired,action}/pose/ARM         (T, 4, 4) float64
    {actual,desired,action}/width_m/GRIPPER  (T,)      float64
    actual/joint_position_rad/ARM            (T, 7)    float64, where the robot gave them
    camera/NAME/rgb                          (T, H, W, 3) uint8
    camera/NAME/intrinsics                   (3, 3)    float64, pixels
    camera/NAME/X_TC                         (T, 4, 4) float64

`actual` and `desired` are what the policy would have observed at that step; `action` is what the
teacher intended from there, which differs from what was executed where noise was injected.
"""

from __future__ import annotations

import json
import os
import re
import uuid
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, ContractError
from policy_interface.types import Action, FloatArray, Observation, RobotState

SCHEMA = "assay.demonstration/1"

_FILE_NAME = re.compile(r"episode_(\d{6,})\.npz")
_POSE_TOLERANCE = 1e-4

# All that numpy, zipfile and json raise for a file that is cut, corrupt or not one of ours.
_UNREADABLE = (
    OSError,
    ValueError,
    KeyError,
    TypeError,
    AttributeError,
    EOFError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


class DemonstrationError(ValueError):
    """A file that is not a whole, well-formed demonstration."""


@dataclass(frozen=True, kw_only=True, eq=False)
class MotionTrack:
    """One robot's motion over T control steps, stacked.

    poses: (T, 4, 4) X_TE by arm. gripper_widths_m: (T,) by gripper.
    joint_positions_rad: (T, 7) by arm, possibly empty.
    """

    poses: Mapping[str, FloatArray]
    gripper_widths_m: Mapping[str, FloatArray]
    joint_positions_rad: Mapping[str, FloatArray] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("poses", "gripper_widths_m", "joint_positions_rad"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    @staticmethod
    def stack(states: Sequence[RobotState | Action]) -> MotionTrack:
        first = states[0]
        joint_arms = first.joint_positions_rad if isinstance(first, RobotState) else {}
        return MotionTrack(
            poses={arm: np.stack([s.poses[arm].matrix() for s in states]) for arm in first.poses},
            gripper_widths_m={
                gripper: np.array([s.gripper_widths_m[gripper] for s in states])
                for gripper in first.gripper_widths_m
            },
            joint_positions_rad={
                arm: np.stack(
                    [s.joint_positions_rad[arm] for s in states if isinstance(s, RobotState)]
                )
                for arm in joint_arms
            },
        )


@dataclass(frozen=True, kw_only=True, eq=False)
class CameraTrack:
    """One camera over T control steps: rgb (T, H, W, 3), intrinsics (3, 3), X_TC (T, 4, 4)."""

    rgb: npt.NDArray[np.uint8]
    intrinsics: FloatArray
    X_TC: FloatArray


@dataclass(frozen=True, kw_only=True, eq=False)
class Demonstration:
    """One episode by a teacher.

    contract: what the recording station gave. teacher: who acted, such as "scripted expert".
    provenance: free text facts (versions, noise), by name.
    """

    task: str
    instruction: str | None
    scenario_index: int
    seed: int
    success: bool
    teacher: str
    contract: Contract
    time_s: FloatArray
    actual: MotionTrack
    desired: MotionTrack
    action: MotionTrack
    cameras: Mapping[str, CameraTrack]
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "cameras", MappingProxyType(dict(self.cameras)))
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))
        num_steps = len(self.time_s)
        if num_steps == 0:
            raise DemonstrationError("expected at least one control step, got none")
        _check_array("time_s", self.time_s, (num_steps,), np.dtype(np.float64))
        for name in ("actual", "desired", "action"):
            _check_motion(name, getattr(self, name), self.contract, num_steps)
        if self.cameras.keys() != self.contract.cameras.keys():
            raise DemonstrationError(
                f"expected images of {sorted(self.contract.cameras)}, got {sorted(self.cameras)}"
            )
        for name, track in self.cameras.items():
            size = self.contract.cameras[name]
            _check_array(
                f"camera/{name}/rgb",
                track.rgb,
                (num_steps, size.height, size.width, 3),
                np.dtype(np.uint8),
            )
            _check_array(
                f"camera/{name}/intrinsics", track.intrinsics, (3, 3), np.dtype(np.float64)
            )
            _check_poses(f"camera/{name}/X_TC", track.X_TC, num_steps)

    @property
    def num_steps(self) -> int:
        return len(self.time_s)

    @staticmethod
    def from_steps(
        observations: Sequence[Observation],
        actions: Sequence[Action],
        *,
        task: str,
        scenario_index: int,
        seed: int,
        success: bool,
        teacher: str,
        contract: Contract,
        provenance: Mapping[str, str],
    ) -> Demonstration:
        """Stack what was observed and what was intended. Raises DemonstrationError."""
        if not observations or len(observations) != len(actions):
            raise DemonstrationError(
                "expected as many observations as actions, and at least one, "
                f"got {len(observations)} and {len(actions)}"
            )
        first = observations[0]
        return Demonstration(
            task=task,
            instruction=first.language_instruction,
            scenario_index=scenario_index,
            seed=seed,
            success=success,
            teacher=teacher,
            contract=contract,
            time_s=np.array([o.time_s for o in observations], dtype=np.float64),
            actual=MotionTrack.stack([o.actual for o in observations]),
            desired=MotionTrack.stack([o.desired for o in observations]),
            action=MotionTrack.stack(actions),
            cameras={
                name: CameraTrack(
                    rgb=np.stack([o.cameras[name].rgb for o in observations]),
                    intrinsics=view.intrinsics,
                    X_TC=np.stack([o.cameras[name].X_TC.matrix() for o in observations]),
                )
                for name, view in first.cameras.items()
            },
            provenance=provenance,
        )


def _check_array(
    name: str, array: npt.NDArray[Any], shape: tuple[int, ...], dtype: np.dtype[Any]
) -> None:
    if array.shape != shape or array.dtype != dtype:
        raise DemonstrationError(
            f"{name}: expected {shape} of {dtype}, got {array.shape} of {array.dtype}"
        )
    if dtype.kind == "f" and not np.isfinite(array).all():
        raise DemonstrationError(f"{name}: expected finite numbers")


def _check_poses(name: str, poses: FloatArray, num_steps: int) -> None:
    _check_array(name, poses, (num_steps, 4, 4), np.dtype(np.float64))
    rotation = poses[:, :3, :3]
    residual = np.abs(rotation @ rotation.transpose(0, 2, 1) - np.eye(3)).max()
    if residual > _POSE_TOLERANCE or not (np.linalg.det(rotation) > 0).all():
        raise DemonstrationError(f"{name}: expected rotations, got matrices off by {residual:.3g}")


def _check_motion(name: str, motion: MotionTrack, contract: Contract, num_steps: int) -> None:
    if set(motion.poses) != set(contract.arms):
        raise DemonstrationError(
            f"{name}: expected arms {contract.arms}, got {sorted(motion.poses)}"
        )
    if set(motion.gripper_widths_m) != set(contract.grippers):
        raise DemonstrationError(
            f"{name}: expected grippers {contract.grippers}, got {sorted(motion.gripper_widths_m)}"
        )
    for arm, poses in motion.poses.items():
        _check_poses(f"{name}/pose/{arm}", poses, num_steps)
    for gripper, widths in motion.gripper_widths_m.items():
        _check_array(f"{name}/width_m/{gripper}", widths, (num_steps,), np.dtype(np.float64))
    for arm, joints in motion.joint_positions_rad.items():
        _check_array(
            f"{name}/joint_position_rad/{arm}", joints, (num_steps, 7), np.dtype(np.float64)
        )


def demonstration_path(folder: Path, scenario_index: int) -> Path:
    return folder / f"episode_{scenario_index:06d}.npz"


def list_demonstrations(folder: Path) -> list[Path]:
    """The demonstrations in a folder, by scenario index. Raises DemonstrationError if none."""
    if not folder.is_dir():
        raise DemonstrationError(f"{folder}: no such folder of demonstrations")
    paths = [path for path in folder.iterdir() if _FILE_NAME.fullmatch(path.name)]
    if not paths:
        raise DemonstrationError(f"{folder}: no demonstrations (episode_NNNNNN.npz) in this folder")
    return sorted(paths, key=lambda path: int(path.stem.removeprefix("episode_")))


def save_demonstration(demonstration: Demonstration, path: Path) -> None:
    """Write atomically: beside the path, fsynced, then renamed over it."""
    metadata = {
        "schema": SCHEMA,
        "task": demonstration.task,
        "instruction": demonstration.instruction,
        "scenario_index": demonstration.scenario_index,
        "seed": demonstration.seed,
        "success": demonstration.success,
        "teacher": demonstration.teacher,
        "contract": demonstration.contract.to_json(),
        "provenance": dict(demonstration.provenance),
    }
    arrays: dict[str, npt.NDArray[Any]] = {
        "metadata": np.array(json.dumps(metadata)),
        "time_s": demonstration.time_s,
    }
    for name in ("actual", "desired", "action"):
        motion: MotionTrack = getattr(demonstration, name)
        arrays |= {f"{name}/pose/{arm}": poses for arm, poses in motion.poses.items()}
        arrays |= {f"{name}/width_m/{g}": widths for g, widths in motion.gripper_widths_m.items()}
        arrays |= {
            f"{name}/joint_position_rad/{arm}": joints
            for arm, joints in motion.joint_positions_rad.items()
        }
    for name, track in demonstration.cameras.items():
        arrays[f"camera/{name}/rgb"] = track.rgb
        arrays[f"camera/{name}/intrinsics"] = track.intrinsics
        arrays[f"camera/{name}/X_TC"] = track.X_TC
    # Not tempfile, whose files nobody but their owner may read.
    partial = path.with_name(f".{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("xb") as file:
            np.savez_compressed(file, allow_pickle=False, **arrays)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise


def load_demonstration(path: Path) -> Demonstration:
    """Read and check one file. Raises DemonstrationError naming the file and what is wrong."""
    try:
        with np.load(path, allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return _assemble(arrays)
    except _UNREADABLE as error:
        raise DemonstrationError(
            f"{path}: not a whole demonstration of {SCHEMA}: {error}"
        ) from error


def _assemble(arrays: Mapping[str, npt.NDArray[Any]]) -> Demonstration:
    metadata = json.loads(str(arrays["metadata"][()]))
    schema = metadata.pop("schema")
    if schema != SCHEMA:
        raise DemonstrationError(f"schema {schema!r} is not the {SCHEMA!r} known here")
    try:
        contract = Contract.from_json(metadata.pop("contract"))
    except ContractError as error:
        raise DemonstrationError(str(error)) from error

    def under(prefix: str) -> dict[str, npt.NDArray[Any]]:
        return {n.removeprefix(prefix): a for n, a in arrays.items() if n.startswith(prefix)}

    def motion(name: str) -> MotionTrack:
        return MotionTrack(
            poses=under(f"{name}/pose/"),
            gripper_widths_m=under(f"{name}/width_m/"),
            joint_positions_rad=under(f"{name}/joint_position_rad/"),
        )

    return Demonstration(
        **metadata,
        contract=contract,
        time_s=arrays["time_s"],
        actual=motion("actual"),
        desired=motion("desired"),
        action=motion("action"),
        cameras={
            name: CameraTrack(
                rgb=arrays[f"camera/{name}/rgb"],
                intrinsics=arrays[f"camera/{name}/intrinsics"],
                X_TC=arrays[f"camera/{name}/X_TC"],
            )
            for name in contract.cameras
        },
    )
