"""LBM Eval's "diffusion spartan" episodes: its public training data, as they are downloaded.

Of an episode's folder `processed`:

    metadata.yaml      camera_id_to_semantic_name
    observations.npz   by camera id (T, H, W, 3) uint8; robot__{actual,desired}__... (T, n)
    actions.npz        actions (T, 20); skill_type, pickled objects, which are never unpickled:
                       the skill is read from the path
    intrinsics.npz     (3, 3) by camera id
    extrinsics.npz     (T, 4, 4) by camera id, the camera in the task's frame
    summary.npz        episode_success (1, 1)
    images_*/pose_data.yaml   timestamps in microseconds

Depth and label images (`_depth`, `_label`) are left alone.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Dataset, Episode, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.formats.lbm_fields import LBM_RATE_HZ, TASK_FRAME, lbm_field
from trainer.data.formats.npz_members import ArrayHeader, NpzMembers
from trainer.data.formats.spartan_files import (
    OBSERVATIONS,
    EpisodeFiles,
    find_episodes,
    holds_episodes,
)
from trainer.data.locations import Location

_PATH = re.compile(
    r"tasks/(?P<skill>[^/]+)/(?P<station>[^/]+)/.*?(?P<date>[^/]+)/diffusion_spartan"
)
_TIMESTAMP = re.compile(rb"^\s+timestamp:\s*(\d+)", re.MULTILINE)

# The columns of `actions`, by the names that observations give the same quantities.
_RIGHT, _LEFT = "right::panda", "left::panda"
_ACTION_COLUMNS: Mapping[str, slice] = {
    f"robot__action__poses__{_RIGHT}__xyz": slice(0, 3),
    f"robot__action__poses__{_RIGHT}__rot_6d": slice(3, 9),
    f"robot__action__poses__{_LEFT}__xyz": slice(9, 12),
    f"robot__action__poses__{_LEFT}__rot_6d": slice(12, 18),
    f"robot__action__grippers__{_RIGHT}_hand": slice(18, 19),
    f"robot__action__grippers__{_LEFT}_hand": slice(19, 20),
}
_ACTION_SIZE = 20


def recognises(location: Location) -> bool:
    return holds_episodes(location)


def open_dataset(location: Location) -> SpartanDataset:
    """Raises DataError where there is no episode."""
    episodes = find_episodes(location)
    if not episodes:
        raise DataError(
            "no diffusion spartan episodes (processed/observations.npz)", where=location
        )
    return SpartanDataset(location, episodes)


class SpartanDataset(Dataset):
    """An episode's id is skill/station/date/episode_N where its path tells them."""

    format_name = "spartan"

    def __init__(self, location: Location, episodes: Sequence[EpisodeFiles]) -> None:
        self.where = str(location)
        self._episodes = list(episodes)
        self._root = location.path.rstrip("/")

    def __len__(self) -> int:
        return len(self._episodes)

    def episode(self, index: int) -> SpartanEpisode:
        files = self._episodes[index]
        folder = files.path.removesuffix("/processed")
        match = _PATH.search(folder)
        if match:
            name = "/".join([*match.groups(), folder.rpartition("/")[2]])
        else:
            name = folder.removeprefix(self._root).strip("/") or folder.rpartition("/")[2]
        return SpartanEpisode(files, name, match.groupdict() if match else {})


class SpartanEpisode(Episode):
    """place: skill, station and date, as far as the path tells."""

    def __init__(self, files: EpisodeFiles, episode_id: str, place: Mapping[str, str]) -> None:
        self._files, self._id = files, episode_id
        if files.damage is not None:
            raise DataError(files.damage, where=files.where, episode=episode_id)
        self._observations = self._archive(OBSERVATIONS)
        self._actions = self._archive("actions.npz")
        self._camera_ids: dict[str, str] = {}
        self._description = self._describe(place)

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        num_steps = self._description.num_steps
        for camera_id in self._camera_ids.values():
            opener = self._files.files.get(f"images_{camera_id}/pose_data.yaml")
            if opener is None:
                continue
            with opener() as file:
                stamps_us = [int(stamp) for stamp in _TIMESTAMP.findall(file.read())]
            if len(stamps_us) != num_steps:
                raise self._error(
                    f"pose_data.yaml of camera {camera_id} has {len(stamps_us)} timestamps "
                    f"for {num_steps} steps"
                )
            return (np.array(stamps_us) - stamps_us[0]) / 1e6
        return np.arange(num_steps) / LBM_RATE_HZ

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        _, start, stop = self.check_range(name, start, stop)
        if name in _ACTION_COLUMNS:
            return self._actions.read("actions", start, stop)[:, _ACTION_COLUMNS[name]]
        archive = self._actions if name == "actions" else self._observations
        return archive.read(name, start, stop)

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        described = self.check_steps(camera, steps)
        if not len(steps):
            return np.empty((0, described.height, described.width, 3), np.uint8)
        first = min(steps)
        frames = self._observations.read(self._camera_ids[camera], first, max(steps) + 1)
        return frames[np.asarray(steps, dtype=np.int64) - first]

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if not self.check_steps(camera, ()).has_intrinsics:
            return super().intrinsics(camera, start, stop)
        matrix = self._archive("intrinsics.npz").read(self._camera_ids[camera])
        num_steps = len(range(self._description.num_steps)[start:stop])
        return np.broadcast_to(matrix.astype(np.float64), (num_steps, 3, 3))

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if not self.check_steps(camera, ()).has_extrinsics:
            return super().extrinsics(camera, start, stop)
        return self._archive("extrinsics.npz").read(self._camera_ids[camera], start, stop)

    def _describe(self, place: Mapping[str, str]) -> EpisodeDescription:
        headers = self._observations.headers()
        actions = self._actions.headers().get("actions")
        if actions is None:
            raise self._error("actions.npz holds no array 'actions'")
        num_steps = actions.shape[0]
        fields = self._action_fields(actions)
        for name, header in headers.items():
            if name.startswith("robot__") and _is_numeric(header):
                self._check_length(name, header, num_steps)
                fields[name] = lbm_field(name, header.shape[1:], header.dtype.name)
        return EpisodeDescription(
            episode_id=self._id,
            num_steps=num_steps,
            rate_hz=LBM_RATE_HZ,
            fields=fields,
            cameras=self._cameras(headers, num_steps),
            task=place.get("skill"),
            success=self._success(),
            provenance={key: place[key] for key in ("station", "date") if key in place},
        )

    def _action_fields(self, header: ArrayHeader) -> dict[str, Field]:
        dtype = header.dtype.name
        if header.shape[1:] != (_ACTION_SIZE,):
            return {"actions": Field(shape=header.shape[1:], dtype=dtype, role="action")}
        return {
            name: lbm_field(name, (columns.stop - columns.start,), dtype)
            for name, columns in _ACTION_COLUMNS.items()
        }

    def _cameras(self, headers: Mapping[str, ArrayHeader], num_steps: int) -> dict[str, Camera]:
        matrices = {
            name: self._archive(f"{name}.npz").headers()
            if f"{name}.npz" in self._files.files
            else {}
            for name in ("intrinsics", "extrinsics")
        }
        cameras: dict[str, Camera] = {}
        for camera_id, name in self._camera_names().items():
            header = headers.get(camera_id)
            if header is None:
                continue
            self._check_length(camera_id, header, num_steps)
            if len(header.shape) != 4 or header.shape[3] != 3 or header.dtype != np.uint8:
                raise self._error(
                    f"expected (T, H, W, 3) of uint8, got {header.shape} of {header.dtype}",
                    camera_id,
                )
            extrinsics = matrices.get("extrinsics", {}).get(camera_id)
            if extrinsics is not None:
                self._check_length(f"extrinsics of {camera_id}", extrinsics, num_steps)
            self._camera_ids[name] = camera_id
            cameras[name] = Camera(
                height=header.shape[1],
                width=header.shape[2],
                encoding="raw",
                has_intrinsics=camera_id in matrices.get("intrinsics", {}),
                has_extrinsics=extrinsics is not None,
                frame=TASK_FRAME if extrinsics is not None else None,
            )
        return cameras

    def _camera_names(self) -> Mapping[str, str]:
        opener = self._files.files.get("metadata.yaml")
        if opener is None:
            raise self._error("no metadata.yaml")
        try:
            with opener() as file:
                told = yaml.safe_load(file)
            names = told["camera_id_to_semantic_name"]
            if not all(isinstance(name, str) for name in names.values()):
                # The text of a list can be billions of times longer than the YAML of it.
                raise TypeError("expected a camera's name to be text")
            return {str(key): name for key, name in names.items()}
        except (
            yaml.YAMLError,
            UnicodeDecodeError,
            KeyError,
            TypeError,
            AttributeError,
            RecursionError,
        ) as error:
            raise self._error(f"metadata.yaml: {error!r}") from error

    def _success(self) -> bool | None:
        if "summary.npz" not in self._files.files:
            return None
        summary = self._archive("summary.npz")
        header = summary.headers().get("episode_success")
        if header is None or header.is_pickled:
            return None
        return bool(summary.read("episode_success").all())

    def _archive(self, name: str) -> NpzMembers:
        if name not in self._files.files:
            raise self._error(f"no {name}")
        return NpzMembers(self._files.files[name], f"{self._files.where}/{name}")

    def _check_length(self, name: str, header: ArrayHeader, num_steps: int) -> None:
        if not header.shape or header.shape[0] != num_steps:
            raise self._error(
                f"has {header.shape[0] if header.shape else 'no'} rows, but there are {num_steps} "
                "actions",
                name,
            )

    def _error(self, message: str, field: str | None = None) -> DataError:
        return DataError(message, where=self._files.where, episode=self._id, field=field)


def _is_numeric(header: ArrayHeader) -> bool:
    return header.dtype.kind in "biuf" and len(header.shape) > 0
