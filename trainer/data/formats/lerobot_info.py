"""`meta/info.json` of a LeRobot data set: its versions, paths and features.

A feature is a column of numbers, or a camera whose frames are a video or images in the column. What
this project knows of a field and LeRobot doesn't (frame, unit, kind) stands under the key `assay`
of a feature that we wrote.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from trainer.data.episode import Camera, Field, FieldRole
from trainer.data.errors import DataError
from trainer.data.formats.lerobot_language import LANGUAGE_COLUMN, LANGUAGE_DTYPE, LEFT_OUT
from trainer.data.locations import Location

INFO_PATH = ("meta", "info.json")
CAMERA_PREFIX = "observation.images."
# The columns that LeRobot adds to every data set; they count rows, or are read by their meaning.
BOOKKEEPING = ("timestamp", "frame_index", "episode_index", "index", "task_index")
ASSAY_KEY = "assay"


@dataclass(frozen=True, kw_only=True)
class Feature:
    """column: as LeRobot calls it. Either a field or a camera."""

    column: str
    field: Field | None = None
    camera: Camera | None = None
    is_video: bool = False


@dataclass(frozen=True, kw_only=True)
class LeRobotInfo:
    """fields, cameras: features by the name that they have in the view. intrinsics, extrinsics: the
    columns of each camera. time_column: when each step was, in seconds. has_language: whether
    subtasks may be annotated. left_out: features that the view does not show, and why."""

    location: Location
    version: str
    rate_hz: float
    robot: str | None
    chunks_size: int
    data_path: str
    video_path: str | None
    total_episodes: int
    time_column: str
    has_language: bool
    fields: Mapping[str, Feature]
    cameras: Mapping[str, Feature]
    intrinsics: Mapping[str, str]
    extrinsics: Mapping[str, str]
    left_out: Mapping[str, str]

    def file(self, template: str, **words: object) -> Location:
        """Of data_path or video_path. Raises DataError for one that does not lead to a file below
        the data set."""
        try:
            path = template.format(**words)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise DataError(
                f"{template!r} gives no path with {words}: {error!r}",
                where=_info_file(self.location),
            ) from error
        return self.location.inside(path)


def codebase_version(location: Location) -> str | None:
    """Such as v3.0; None where no LeRobot data set lies here."""
    file = _info_file(location)
    if not location.is_dir() or not file.is_file():
        return None
    try:
        told = json.loads(file.read_text())
    except (ValueError, RecursionError, OSError):
        return "unreadable"
    return str(told.get("codebase_version", "unknown")) if isinstance(told, dict) else "unreadable"


def read_info(location: Location, *, known_versions: tuple[str, ...]) -> LeRobotInfo:
    """Raises DataError for a file that is not whole, and for a version that is not known."""
    file = _info_file(location)
    try:
        told = json.loads(file.read_text())
        version = str(told["codebase_version"])
        if version not in known_versions:
            raise DataError(
                f"codebase_version {version!r} is not known: expected "
                f"{' or '.join(known_versions)}; LeRobot's own scripts convert others",
                where=file,
            )
        return _parse(location, version, told)
    except FileNotFoundError as error:
        raise DataError("no such file; a LeRobot data set has one", where=file) from error
    except KeyError as error:
        raise DataError(f"no key {error}", where=file) from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, DataError):
            raise
        raise DataError(f"not the information that LeRobot writes: {error}", where=file) from error


@contextmanager
def reading_tables(location: Location) -> Iterator[None]:
    """Raises DataError where the tables of episodes and tasks hold something else than they do."""
    try:
        yield
    except DataError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError) as error:
        raise DataError(f"not the tables that LeRobot writes: {error!r}", where=location) from error


def _info_file(location: Location) -> Location:
    return location / INFO_PATH[0] / INFO_PATH[1]


def _parse(location: Location, version: str, told: Mapping[str, Any]) -> LeRobotInfo:
    rate_hz = float(told["fps"])
    if not rate_hz > 0:
        raise DataError(f"expected a positive fps, got {rate_hz}", where=_info_file(location))
    chunks_size = int(told.get("chunks_size", 1000))
    if chunks_size < 1:
        raise DataError(
            f"chunks_size: expected 1 or more, got {chunks_size}", where=_info_file(location)
        )
    fields: dict[str, Feature] = {}
    cameras: dict[str, Feature] = {}
    intrinsics: dict[str, str] = {}
    extrinsics: dict[str, str] = {}
    left_out: dict[str, str] = {}
    time_column = "timestamp"
    has_language = False
    for column, feature in told["features"].items():
        ours = feature.get(ASSAY_KEY) or {}
        if column in BOOKKEEPING:
            continue
        if "assembled_from" in ours:
            # The fields that it was put together from are there too.
            continue
        if "is_time" in ours:
            time_column = column
        elif "intrinsics_of" in ours:
            intrinsics[ours["intrinsics_of"]] = column
        elif "extrinsics_of" in ours:
            extrinsics[ours["extrinsics_of"]] = column
        elif feature["dtype"] in ("image", "video"):
            reason = _why_no_camera(feature)
            if reason:
                left_out[column] = reason
            else:
                cameras[_camera_name(column, ours, told["features"])] = Feature(
                    column=column, camera=_camera(feature), is_video=feature["dtype"] == "video"
                )
        elif feature["dtype"] == LANGUAGE_DTYPE and column in LEFT_OUT:
            has_language = has_language or column == LANGUAGE_COLUMN
            left_out[column] = LEFT_OUT[column]
        elif not _is_numeric(feature["dtype"]):
            left_out[column] = f"holds no numbers but {feature['dtype']}"
        else:
            name, field = _field(column, feature, ours)
            fields[name] = Feature(column=column, field=field)
    return LeRobotInfo(
        location=location,
        version=version,
        rate_hz=rate_hz,
        robot=told.get("robot_type"),
        chunks_size=chunks_size,
        data_path=told["data_path"],
        video_path=told.get("video_path"),
        total_episodes=int(told["total_episodes"]),
        time_column=time_column,
        has_language=has_language,
        fields=fields,
        cameras={
            name: _calibrated(feature, name in intrinsics, name in extrinsics)
            for name, feature in cameras.items()
        },
        intrinsics=intrinsics,
        extrinsics=extrinsics,
        left_out=left_out,
    )


def _is_numeric(dtype: str) -> bool:
    try:
        return np.dtype(dtype).kind in "biuf"
    except TypeError:
        return False


def _field(column: str, feature: Mapping[str, Any], ours: Mapping[str, Any]) -> tuple[str, Field]:
    if "field" in ours:
        return ours["name"], Field(**ours["field"])
    shape = tuple(feature["shape"])
    names = _names(feature.get("names"))
    role: FieldRole = "other"
    if column == "action" or column.startswith("action."):
        role = "action"
    elif column.startswith("observation."):
        role = "observed"
    return column, Field(
        shape=shape,
        dtype=feature["dtype"],
        role=role,
        names=names if len(names) == int(np.prod(shape)) else (),
    )


def _names(told: Any) -> tuple[str, ...]:
    """A list of names, such lists by group, or places by name: data sets have all three."""
    if isinstance(told, Mapping):
        if all(isinstance(place, int) for place in told.values()):
            return tuple(sorted(told, key=lambda name: told[name]))
        return tuple(name for group in told.values() for name in _names(group))
    if isinstance(told, list):
        return tuple(name for item in told for name in _names(item))
    return (told,) if isinstance(told, str) else ()


def _image_shape(feature: Mapping[str, Any]) -> tuple[int, int, int]:
    """(H, W, C), whichever order the feature has them in."""
    first, second, third = feature["shape"]
    names = feature.get("names")
    if isinstance(names, list) and len(names) == 3:
        channels_first = str(names[0]).startswith("channel")
    else:
        channels_first = first in (1, 3, 4) and third not in (1, 3, 4)
    return (second, third, first) if channels_first else (first, second, third)


def _why_no_camera(feature: Mapping[str, Any]) -> str | None:
    info = {**(feature.get("video_info") or {}), **(feature.get("info") or {})}
    if info.get("is_depth_map") or info.get("video.is_depth_map"):
        return "a depth map, not a colour image"
    channels = _image_shape(feature)[2]
    return None if channels == 3 else f"has {channels} channels, not 3"


def _camera(feature: Mapping[str, Any]) -> Camera:
    height, width, _ = _image_shape(feature)
    ours = feature.get(ASSAY_KEY) or {}
    return Camera(
        height=int(height),
        width=int(width),
        encoding="video" if feature["dtype"] == "video" else "png",
        frame=ours.get("frame"),
    )


def _calibrated(feature: Feature, has_intrinsics: bool, has_extrinsics: bool) -> Feature:
    assert feature.camera is not None
    camera = replace(feature.camera, has_intrinsics=has_intrinsics, has_extrinsics=has_extrinsics)
    return replace(feature, camera=camera)


def _camera_name(column: str, ours: Mapping[str, Any], features: Mapping[str, Any]) -> str:
    """Without the prefix that all cameras have, unless that is another feature's name."""
    if "name" in ours:
        return ours["name"]
    short = column.removeprefix(CAMERA_PREFIX)
    return column if short in features else short
