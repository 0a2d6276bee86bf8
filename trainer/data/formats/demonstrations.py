"""Our own demonstrations: folders of `episode_NNNNNN.npz`, described in
`policy_interface.demonstration`.

A file is a zip of arrays. Only the arrays that are asked for are inflated, and of each only what
lies before the range's end. Fields have the names of the arrays, such as
`actual/pose/right::panda`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, ContractError
from policy_interface.demonstration import SCHEMA
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
from trainer.data.formats.npz_members import ArrayHeader, NpzMembers
from trainer.data.locations import Location

_FILE_NAME = re.compile(r"episode_(\d{6,})\.npz")
_FIELD_NAME = re.compile(r"(actual|desired|action)/(pose|width_m|joint_position_rad)/(.+)")
_ROLES: Mapping[str, FieldRole] = {"actual": "observed", "desired": "desired", "action": "action"}
_KINDS: Mapping[str, tuple[FieldKind, str]] = {
    "pose": ("pose", "m"),
    "width_m": ("gripper", "m"),
    "joint_position_rad": ("joint_position", "rad"),
}


def recognises(location: Location) -> bool:
    return bool(_find_files(location))


def open_dataset(location: Location) -> DemonstrationDataset:
    """Raises DataError where there is no demonstration."""
    files = _find_files(location)
    if not files:
        raise DataError("no demonstrations (episode_NNNNNN.npz) here", where=location)
    return DemonstrationDataset(location, files)


def _find_files(location: Location) -> list[Location]:
    """In the folder, or one below (a folder a task); or the file itself."""
    if not location.is_dir():
        return [location] if _FILE_NAME.fullmatch(location.name) else []
    found: list[Location] = []
    for child in location.children():
        if _FILE_NAME.fullmatch(child.name):
            found.append(child)
        elif child.is_dir():
            found += [file for file in child.children() if _FILE_NAME.fullmatch(file.name)]
    return sorted(found, key=lambda file: (file.parent.path, len(file.name), file.name))


class DemonstrationDataset(Dataset):
    """An episode's id is its file's name, after its folder's where there are several."""

    format_name = "demonstrations"

    def __init__(self, location: Location, files: Sequence[Location]) -> None:
        self.where = str(location)
        self._files = list(files)
        several = len({file.parent.path for file in self._files}) > 1
        self._ids = [
            "/".join([file.parent.name] * several + [file.name.removesuffix(".npz")])
            for file in self._files
        ]

    def __len__(self) -> int:
        return len(self._files)

    @property
    def digest(self) -> str:
        """Over the checksums that the files hold of their arrays, images included."""
        hasher = hashlib.sha256()
        for file, episode_id in zip(self._files, self._ids, strict=True):
            checksums = NpzMembers(file.open, str(file)).checksums()
            hasher.update(f"{episode_id} {checksums}\n".encode())
        return hasher.hexdigest()

    def episode(self, index: int) -> DemonstrationEpisode:
        return DemonstrationEpisode(self._files[index], self._ids[index])


class DemonstrationEpisode(Episode):
    """Raises DataError for a file that is not whole or not one of ours."""

    def __init__(self, file: Location, episode_id: str) -> None:
        self._where = str(file)
        self._arrays = NpzMembers(file.open, self._where)
        self._description = self._describe(episode_id)

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        return self._arrays.read("time_s")

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        _, start, stop = self.check_range(name, start, stop)
        return self._arrays.read(name, start, stop)

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        described = self.check_steps(camera, steps)
        if not len(steps):
            return np.empty((0, described.height, described.width, 3), np.uint8)
        first = min(steps)
        frames = self._arrays.read(f"camera/{camera}/rgb", first, max(steps) + 1)
        return frames[np.asarray(steps, dtype=np.int64) - first]

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        self.check_steps(camera, ())
        matrix = self._arrays.read(f"camera/{camera}/intrinsics")
        num_steps = len(range(self._description.num_steps)[start:stop])
        return np.broadcast_to(matrix, (num_steps, 3, 3))

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        self.check_steps(camera, ())
        return self._arrays.read(f"camera/{camera}/X_TC", start, stop)

    def _describe(self, episode_id: str) -> EpisodeDescription:
        headers = self._arrays.headers()
        try:
            metadata = json.loads(str(self._arrays.read("metadata")[()]))
            if metadata["schema"] != SCHEMA:
                raise ValueError(f"schema {metadata['schema']!r} is not the {SCHEMA!r} known here")
            contract = Contract.from_json(metadata["contract"])
            num_steps = headers["time_s"].shape[0]
            instruction = metadata["instruction"]
            description = EpisodeDescription(
                episode_id=episode_id,
                num_steps=num_steps,
                rate_hz=contract.control_rate_hz,
                fields={
                    name: _field(match, header, contract)
                    for name, header in headers.items()
                    if (match := _FIELD_NAME.fullmatch(name))
                },
                cameras={
                    name: Camera(
                        height=size.height,
                        width=size.width,
                        encoding="raw",
                        has_intrinsics=True,
                        has_extrinsics=True,
                        frame=contract.frame,
                    )
                    for name, size in contract.cameras.items()
                },
                instructions={"original": (instruction,)} if instruction is not None else {},
                task=metadata["task"],
                success=bool(metadata["success"]),
                seed=int(metadata["seed"]),
                provenance={
                    **metadata["provenance"],
                    "teacher": metadata["teacher"],
                    "scenario_index": str(metadata["scenario_index"]),
                    "contract": json.dumps(json.loads(metadata["contract"])),
                },
            )
        except (
            KeyError,
            TypeError,
            ValueError,
            IndexError,
            RecursionError,
            ContractError,
        ) as error:
            if isinstance(error, DataError):
                raise
            told = f"no {error}" if isinstance(error, KeyError) else str(error)
            raise DataError(
                f"not a demonstration of {SCHEMA}: {told}", where=self._where
            ) from error
        self._check_lengths(description, headers)
        return description

    def _check_lengths(
        self, description: EpisodeDescription, headers: Mapping[str, ArrayHeader]
    ) -> None:
        """Rows and frames of every array are as many as the control steps."""
        expected = {
            name: (description.num_steps, *field.shape)
            for name, field in description.fields.items()
        }
        for name, camera in description.cameras.items():
            steps = description.num_steps
            expected[f"camera/{name}/rgb"] = (steps, camera.height, camera.width, 3)
            expected[f"camera/{name}/intrinsics"] = (3, 3)
            expected[f"camera/{name}/X_TC"] = (steps, 4, 4)
        for name, shape in expected.items():
            if name not in headers or headers[name].shape != shape:
                got = headers[name].shape if name in headers else "none"
                raise DataError(f"expected {shape}, got {got}", where=self._where, field=name)


def _field(match: re.Match[str], header: ArrayHeader, contract: Contract) -> Field:
    role, quantity, part = match.groups()
    kind, unit = _KINDS[quantity]
    return Field(
        shape=header.shape[1:],
        dtype=header.dtype.name,
        kind=kind,
        role=_ROLES[role],
        unit=unit,
        frame=contract.frame if kind == "pose" else None,
        part=part,
    )
