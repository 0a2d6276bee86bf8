"""How an episode's fields become the arrays of VLA Foundry's windows.

Every array is (T, C) over an episode. A pose becomes a translation and the first two rows of its
rotation. A field that tells its role, kind and part gets the name that LBM Eval's have, by which
Foundry's own configurations find it; any other keeps its name, with __ for a slash.

Axes: T control step, N window, W step of the window, C column.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Episode, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.poses import inverse_poses, make_poses
from trainer.data.rotation_layouts import rotation_from_numbers, rotation_to_numbers

Arrays = dict[str, npt.NDArray[Any]]

_ROLES = {"observed": "actual", "desired": "desired", "action": "action"}
_QUANTITIES = {
    "pose": "poses",
    "gripper": "grippers",
    "joint_position": "joint_position",
    "joint_velocity": "joint_velocity",
    "joint_torque": "joint_torque",
    "wrench": "wrench",
}
_POSITION, _ROTATION = "__xyz", "__rot_6d"


@dataclass(frozen=True, kw_only=True)
class PoseGroup:
    """Arrays of a pose, and those of the pose that was measured of the same part."""

    position: str
    rotation: str
    reference_position: str
    reference_rotation: str


def array_names(description: EpisodeDescription) -> dict[str, tuple[str, ...]]:
    """Of the array or two that each field becomes. Raises DataError where two share a name."""
    names: dict[str, tuple[str, ...]] = {}
    taken: dict[str, str] = {}
    for name, field in description.fields.items():
        if np.dtype(field.dtype).kind not in "biuf":
            raise DataError(f"Foundry's windows hold numbers, not {field.dtype}", field=name)
        base = _lbm_name(field) or name.replace("/", "__")
        pair = _is_pose(field)
        names[name] = (base + _POSITION, base + _ROTATION) if pair else (base,)
        for array in names[name]:
            if array in taken:
                raise DataError(f"field {taken[array]!r} becomes {array!r} too", field=name)
            taken[array] = name
    return names


def episode_arrays(episode: Episode) -> Arrays:
    """(T, C) by name. Raises DataError for a field that differs from its description."""
    description = episode.description
    arrays: Arrays = {}
    for name, of_field in array_names(description).items():
        field = description.fields[name]
        values = episode.read(name)
        expected = (description.num_steps, *field.shape)
        if values.shape != expected:
            raise DataError(
                f"expected {expected}, got {values.shape}",
                episode=description.episode_id,
                field=name,
            )
        if len(of_field) == 2:
            position, rotation = of_field
            arrays[position] = np.ascontiguousarray(values[:, :3, 3])
            arrays[rotation] = rotation_to_numbers(values[:, :3, :3], "rows")
        else:
            arrays[of_field[0]] = values.reshape(description.num_steps, field.size)
    return arrays


def pose_groups(names: Mapping[str, Any]) -> list[PoseGroup]:
    """The poses among arrays of these names whose part was measured too."""
    groups = []
    for name in names:
        if not name.endswith(_POSITION):
            continue
        base = name.removesuffix(_POSITION)
        reference = _measured(base)
        wanted = (base + _ROTATION, reference + _POSITION, reference + _ROTATION)
        if all(other in names for other in wanted):
            groups.append(
                PoseGroup(
                    position=name,
                    rotation=wanted[0],
                    reference_position=wanted[1],
                    reference_rotation=wanted[2],
                )
            )
    return groups


def relative_arrays(
    arrays: Arrays, steps_NW: npt.NDArray[np.int64], anchors_N: npt.NDArray[np.int64]
) -> Arrays:
    """(N, W, C) of each pose in the frame of the one measured at the window's anchor."""
    relative: Arrays = {}
    for group in pose_groups(arrays):
        poses_T = _poses(arrays[group.position], arrays[group.rotation])
        measured_T = _poses(arrays[group.reference_position], arrays[group.reference_rotation])
        poses_NW = inverse_poses(measured_T[anchors_N])[:, None] @ poses_T[steps_NW]
        relative[f"{group.position}_relative"] = poses_NW[..., :3, 3]
        relative[f"{group.rotation}_relative"] = rotation_to_numbers(poses_NW[..., :3, :3], "rows")
    return relative


def _poses(position: FloatArray, rotation: FloatArray) -> FloatArray:
    return make_poses(rotation_from_numbers(rotation, "rows"), np.asarray(position, np.float64))


def _measured(base: str) -> str:
    """robot__action__poses__PART to robot__actual__poses__PART."""
    parts = base.split("__")
    return "__".join([parts[0], "actual", *parts[2:]]) if len(parts) > 2 else base


def _lbm_name(field: Field) -> str | None:
    if field.role not in _ROLES or field.kind not in _QUANTITIES or field.part is None:
        return None
    if field.kind == "pose" and not _is_pose(field):
        return None
    return f"robot__{_ROLES[field.role]}__{_QUANTITIES[field.kind]}__{field.part}"


def _is_pose(field: Field) -> bool:
    return field.kind == "pose" and field.shape == (4, 4)
