"""How an episode's fields become LeRobot's columns, and what `info.json` says of each.

LeRobot's policies learn from two vectors, `observation.state` and `action`. Where the source has
no fields of these names they are put together from its observed fields and from its actions, a pose
as a translation and six numbers of rotation: a matrix's last row never varies, and would be divided
by its standard deviation. The source's own fields are kept beside them, exactly, in columns whose
names LeRobot's policies pass over; what LeRobot has no place for stands under the key `assay`.

Axes: T control step.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.episode import Episode, EpisodeDescription, Field, FieldRole
from trainer.data.errors import DataError
from trainer.data.formats.lerobot_info import ASSAY_KEY, BOOKKEEPING, CAMERA_PREFIX
from trainer.data.image_files import ImageSettings, resized_intrinsics
from trainer.data.rotation_layouts import ROTATION_NAMES, rotation_to_numbers

STATE, ACTION = "observation.state", "action"
TIME_COLUMN = "field.time_s"
_OWN_PREFIX = "field."
_LEROBOT_PREFIXES = ("observation.", "action.", "next.")
_POSE_NAMES = ("x", "y", "z", *ROTATION_NAMES["rows"])


@dataclass(frozen=True, kw_only=True)
class Column:
    """dtype, size: of a row. ours: what stands under `assay`. parts: the fields that it is put
    together from, or the one that it is."""

    dtype: str
    size: int
    names: tuple[str, ...]
    ours: Mapping[str, Any]

    def to_feature(self) -> dict[str, Any]:
        return {
            "dtype": self.dtype,
            "shape": [self.size],
            "names": list(self.names) or None,
            ASSAY_KEY: dict(self.ours),
        }


def number_columns(description: EpisodeDescription) -> dict[str, Column]:
    """All but LeRobot's own, by name. Raises DataError for what LeRobot cannot hold."""
    columns: dict[str, Column] = {}
    for role, name in _vectors(description).items():
        parts = _parts(description, role)
        names = tuple(number for part in parts for number in _numbers(part, description))
        columns[name] = Column(
            dtype="float32", size=len(names), names=names, ours={"assembled_from": parts}
        )
    for name, field in description.fields.items():
        if np.dtype(field.dtype).kind not in "biuf" or field.size < 1:
            raise DataError(
                f"LeRobot holds numbers alone, got {field.shape} of {field.dtype}", field=name
            )
        column = own_column(name)
        if column in columns:
            raise DataError(f"another field becomes LeRobot's column {column!r} too", field=name)
        columns[column] = Column(
            dtype=field.dtype,
            size=field.size,
            names=field.names,
            ours={"name": name, "field": asdict(field)},
        )
    columns[TIME_COLUMN] = Column(dtype="float64", size=1, names=(), ours={"is_time": True})
    for name, camera in description.cameras.items():
        if camera.has_intrinsics:
            columns[f"camera_intrinsics.{_dotted(name)}"] = Column(
                dtype="float64", size=9, names=(), ours={"intrinsics_of": name}
            )
        if camera.has_extrinsics:
            columns[f"camera_extrinsics.{_dotted(name)}"] = Column(
                dtype="float64", size=16, names=(), ours={"extrinsics_of": name}
            )
    return columns


def own_column(name: str) -> str:
    """LeRobot's own names are kept; others must not look like its policies' inputs."""
    if "/" not in name and (name == ACTION or name.startswith(_LEROBOT_PREFIXES)):
        return name
    return _OWN_PREFIX + _dotted(name)


def camera_column(name: str) -> str:
    """As LeRobot calls a camera."""
    if "/" not in name and name.startswith("observation."):
        return name
    return CAMERA_PREFIX + _dotted(name)


def read_columns(
    columns: Mapping[str, Column], episode: Episode, images: ImageSettings
) -> dict[str, npt.NDArray[Any]]:
    """(T, size) of each, by name; intrinsics for frames of the size that is stored.

    Raises DataError for a field unlike its description.
    """
    description = episode.description
    values = {name: _checked(episode, name, field) for name, field in description.fields.items()}
    num_steps = description.num_steps
    read: dict[str, npt.NDArray[Any]] = {}
    for name, column in columns.items():
        ours = column.ours
        if "assembled_from" in ours:
            parts = [
                _flat(values[part], description.fields[part]) for part in ours["assembled_from"]
            ]
            array = np.concatenate(parts, axis=1)
        elif "is_time" in ours:
            array = episode.times_s()
        elif "intrinsics_of" in ours:
            name_of_camera = ours["intrinsics_of"]
            camera = description.cameras[name_of_camera]
            array = resized_intrinsics(
                np.asarray(episode.intrinsics(name_of_camera), np.float64),
                camera,
                images.stored_size(camera),
            )
        elif "extrinsics_of" in ours:
            array = episode.extrinsics(ours["extrinsics_of"])
        else:
            array = values[ours["name"]]
        read[name] = np.asarray(array).astype(column.dtype).reshape(num_steps, column.size)
    return read


def _vectors(description: EpisodeDescription) -> dict[FieldRole, str]:
    """The vectors to put together: those that the source has fields for, but not as a vector."""
    wanted: dict[FieldRole, str] = {"observed": STATE, "action": ACTION}
    return {
        role: name
        for role, name in wanted.items()
        if name not in description.fields and _parts(description, role)
    }


def _parts(description: EpisodeDescription, role: FieldRole) -> list[str]:
    return [name for name, field in description.fields.items() if field.role == role]


def _numbers(name: str, description: EpisodeDescription) -> Sequence[str]:
    field = description.fields[name]
    if _is_pose(field):
        return [f"{name}.{number}" for number in _POSE_NAMES]
    if field.names:
        return [f"{name}.{number}" for number in field.names]
    return [name] if field.size == 1 else [f"{name}.{place}" for place in range(field.size)]


def _flat(values: npt.NDArray[Any], field: Field) -> npt.NDArray[Any]:
    """(T, numbers)."""
    if _is_pose(field):
        rotation = rotation_to_numbers(values[:, :3, :3], "rows")
        return np.concatenate([values[:, :3, 3], rotation], axis=1)
    return values.reshape(len(values), field.size)


def _is_pose(field: Field) -> bool:
    return field.kind == "pose" and field.shape == (4, 4)


def _checked(episode: Episode, name: str, field: Field) -> npt.NDArray[Any]:
    values = episode.read(name)
    expected = (episode.description.num_steps, *field.shape)
    if values.shape != expected:
        raise DataError(
            f"expected {expected}, got {values.shape}",
            episode=episode.description.episode_id,
            field=name,
        )
    return values


def _dotted(name: str) -> str:
    """LeRobot forbids slashes."""
    return name.replace("/", ".")


def bookkeeping_features() -> dict[str, dict[str, Any]]:
    return {
        name: {
            "dtype": "float32" if name == "timestamp" else "int64",
            "shape": [1],
            "names": None,
        }
        for name in BOOKKEEPING
    }
