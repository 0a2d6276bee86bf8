"""HDF5 files as robomimic, MimicGen and LIBERO have them: one, or a folder of them.

    data                       env_args: JSON with env_name and, in env_kwargs, control_freq
    data/demo_0                num_samples
    data/demo_0/actions        (T, n)
    data/demo_0/obs/NAME       (T, ...); of uint8 (T, H, W, 3) are a camera's frames
    data/demo_0/{states,rewards,dones,action_dict/NAME}
    mask/NAME                  names of demonstrations, such as those of a training split

`next_obs` repeats `obs` a step later and is left out, as are depth images. Nobody noted success.
Where no control_freq is told, times are numbers of steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import (
    Camera,
    Dataset,
    Episode,
    EpisodeDescription,
    Field,
    FieldKind,
    FieldRole,
)
from trainer.data.errors import DataError
from trainer.data.locations import Location

_SUFFIXES = (".hdf5", ".h5")
_DEMO = re.compile(r"demo_(\d+)")
# Of a demonstration, besides `obs`: what is a step's own.
_ROLES: Mapping[str, FieldRole] = {"actions": "action", "action_dict": "action", "obs": "observed"}
_OTHERS = ("states", "rewards", "dones")
# By how robosuite's observations end.
_KINDS: Mapping[str, tuple[FieldKind, str | None]] = {
    "_eef_pos": ("translation", "m"),
    "_joint_pos": ("joint_position", "rad"),
    "_joint_vel": ("joint_velocity", "rad/s"),
    "_gripper_qpos": ("gripper", None),
}


def recognises(location: Location) -> bool:
    return any(_holds_demonstrations(file) for file in _files(location)[:1])


def open_dataset(location: Location) -> Hdf5Dataset:
    """Raises DataError for a file that is not whole, and where there is no demonstration."""
    demonstrations: list[tuple[Location, str]] = []
    for file in _files(location):
        with _opened(file) as root:
            names = [name for name in map(str, _group(root, "data")) if _DEMO.fullmatch(name)]
        demonstrations += [(file, name) for name in sorted(names, key=lambda name: int(name[5:]))]
    if not demonstrations:
        raise DataError("no demonstrations (data/demo_N) here", where=location)
    return Hdf5Dataset(location, demonstrations)


def _files(location: Location) -> list[Location]:
    if not location.is_dir():
        return [location] if location.name.endswith(_SUFFIXES) else []
    return [file for file in location.children() if file.name.endswith(_SUFFIXES)]


def _holds_demonstrations(file: Location) -> bool:
    try:
        with _opened(file) as root:
            return isinstance(root.get("data"), h5py.Group)
    except DataError:
        # Damaged, but whose else should it be? Opening it says what is wrong.
        return True


@contextmanager
def _opened(
    file: Location, episode: str | None = None, field: str | None = None
) -> Iterator[h5py.File]:
    """Files are opened for each read: an open one cannot be sent to another process."""
    try:
        with h5py.File(Path(file.local()), "r") as root:
            yield root
    except DataError:
        raise
    except (OSError, KeyError, ValueError, TypeError, RuntimeError, AttributeError) as error:
        told = error.args[0] if isinstance(error, KeyError) and error.args else error
        raise DataError(
            f"cannot be read: {told}", where=file, episode=episode, field=field
        ) from error


class Hdf5Dataset(Dataset):
    """An episode's id is demo_N, after its file's name where there are several."""

    format_name = "hdf5"

    def __init__(self, location: Location, demonstrations: Sequence[tuple[Location, str]]) -> None:
        self.where = str(location)
        self._demonstrations = list(demonstrations)
        self._several = len({file.path for file, _ in self._demonstrations}) > 1

    def __len__(self) -> int:
        return len(self._demonstrations)

    def episode(self, index: int) -> Hdf5Episode:
        file, name = self._demonstrations[index]
        stem = file.name.rpartition(".")[0]
        return Hdf5Episode(file, name, f"{stem}/{name}" if self._several else name)


class Hdf5Episode(Episode):
    """Fields are named as the arrays below data/demo_N, cameras as the observations."""

    def __init__(self, file: Location, name: str, episode_id: str) -> None:
        self._file, self._name, self._id = file, name, episode_id
        with _opened(file, episode_id) as root:
            self._description = self._describe(root)

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        return np.arange(self._description.num_steps) / (self._description.rate_hz or 1.0)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        _, start, stop = self.check_range(name, start, stop)
        with _opened(self._file, self._id, name) as root:
            return _array(root, f"data/{self._name}/{name}")[start:stop]

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        described = self.check_steps(camera, steps)
        if not len(steps):
            return np.empty((0, described.height, described.width, 3), np.uint8)
        first = min(steps)
        with _opened(self._file, self._id, camera) as root:
            frames = _array(root, f"data/{self._name}/obs/{camera}")[first : max(steps) + 1]
        return frames[np.asarray(steps, dtype=np.int64) - first]

    def _describe(self, root: h5py.File) -> EpisodeDescription:
        demonstration = _group(root, f"data/{self._name}")
        num_steps = _array(demonstration, "actions").shape[0]
        fields: dict[str, Field] = {}
        cameras: dict[str, Camera] = {}
        for name, array in _arrays(demonstration):
            if array.shape[:1] != (num_steps,):
                raise DataError(
                    f"has {array.shape[0] if array.shape else 'no'} rows, but there are "
                    f"{num_steps} actions",
                    where=self._file,
                    episode=self._id,
                    field=name,
                )
            if name.startswith("obs/") and array.ndim == 4:
                if array.dtype == np.uint8 and array.shape[3] == 3:
                    cameras[name.removeprefix("obs/")] = Camera(
                        height=array.shape[1], width=array.shape[2], encoding="raw"
                    )
            elif array.dtype.kind in "biuf":
                fields[name] = _field(name, array)
        return self._with_facts(root, num_steps, fields, cameras)

    def _with_facts(
        self,
        root: h5py.File,
        num_steps: int,
        fields: Mapping[str, Field],
        cameras: Mapping[str, Camera],
    ) -> EpisodeDescription:
        environment = _json_attribute(_group(root, "data"), "env_args")
        problem = _json_attribute(_group(root, "data"), "problem_info")
        settings = environment.get("env_kwargs")
        rate = settings.get("control_freq") if isinstance(settings, dict) else None
        instruction = problem.get("language_instruction")
        # LIBERO has had it as a list of one.
        told = [instruction] if isinstance(instruction, str) else instruction or []
        masks = [
            name
            for name in map(str, _group(root, "mask") if "mask" in root else ())
            if self._name in _array(root, f"mask/{name}").asstr()[:]
        ]
        provenance = {"file": self._file.name}
        if masks:
            provenance["masks"] = ", ".join(masks)
        task = environment.get("env_name")
        return EpisodeDescription(
            episode_id=self._id,
            num_steps=num_steps,
            rate_hz=None if rate is None else float(rate),
            fields=fields,
            cameras=cameras,
            instructions={"original": tuple(map(str, told))} if told else {},
            task=None if task is None else str(task),
            provenance=provenance,
        )


def _group(root: h5py.Group, path: str) -> h5py.Group:
    found = root.get(path)
    if not isinstance(found, h5py.Group):
        raise KeyError(f"no group {path!r}")
    return found


def _array(root: h5py.Group, path: str) -> h5py.Dataset:
    found = root.get(path)
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"no array {path!r}")
    return found


def _arrays(demonstration: h5py.Group) -> Iterator[tuple[str, h5py.Dataset]]:
    """Those of a step each, in order."""
    for name in ("actions", "action_dict", "obs", *_OTHERS):
        found = demonstration.get(name)
        if isinstance(found, h5py.Dataset):
            yield name, found
        elif isinstance(found, h5py.Group):
            for key, array in found.items():
                if isinstance(array, h5py.Dataset):
                    yield f"{name}/{key}", array


def _field(name: str, array: h5py.Dataset) -> Field:
    kind, unit = next(
        (told for ending, told in _KINDS.items() if name.endswith(ending)), ("vector", None)
    )
    part = re.match(r"obs/(robot\d+)_", name)
    return Field(
        shape=array.shape[1:],
        dtype=array.dtype.name,
        kind=kind,
        role=_ROLES.get(name.partition("/")[0], "other"),
        unit=unit,
        part=part[1] if part else None,
    )


def _json_attribute(group: h5py.Group, name: str) -> Mapping[str, Any]:
    """Raises ValueError for anything but a JSON object."""
    text = group.attrs.get(name)
    if text is None:
        return {}
    told = json.loads(text)
    if not isinstance(told, dict):
        raise ValueError(f"attribute {name}: expected a JSON object")
    return told
