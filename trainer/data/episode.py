"""One episode of robot data, whatever format holds it.

An episode is a number of control steps. At each, it has named low-dimensional fields (an arm's
pose, a gripper's width, a whole state vector) and a frame of each camera. `Episode` is the view
that every reader gives and everything else takes: statistics, windows, the doctor, the writers.
Making one reads no data; each call reads the steps that it is asked for.

Axes: T control step, H W image.
"""

from __future__ import annotations

import difflib
import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.errors import DataError

FieldKind = Literal[
    # X_FE, a homogeneous matrix: the pose of E in the frame that `frame` names.
    "pose",
    "translation",
    "rotation_matrix",
    # The matrix's first two rows, its first two columns, or those columns interleaved.
    "rotation_6d_rows",
    "rotation_6d_columns",
    "rotation_6d_interleaved",
    "gripper",
    "joint_position",
    "joint_velocity",
    "joint_torque",
    "wrench",
    # Any other numbers, such as a whole state vector.
    "vector",
]

FieldRole = Literal["observed", "desired", "action", "other"]

FrameEncoding = Literal["raw", "jpeg", "png", "video"]


@dataclass(frozen=True, kw_only=True)
class Field:
    """What a low-dimensional field is.

    shape: of one control step, () for a scalar. dtype: numpy's name. unit: "m", "rad", ... or
    None where the source does not say. frame: the frame that it is expressed in, or None.
    names: one a number, or empty. part: which arm, gripper or joint group it belongs to.
    """

    shape: tuple[int, ...]
    dtype: str = "float64"
    kind: FieldKind = "vector"
    role: FieldRole = "other"
    unit: str | None = None
    frame: str | None = None
    part: str | None = None
    names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "shape", tuple(int(side) for side in self.shape))
        object.__setattr__(self, "names", tuple(self.names))
        if self.names and len(self.names) != self.size:
            raise DataError(f"expected {self.size} names, got {len(self.names)}")

    @property
    def size(self) -> int:
        """Numbers a control step."""
        return math.prod(self.shape)


@dataclass(frozen=True, kw_only=True)
class Camera:
    """What a camera's frames are. has_intrinsics, has_extrinsics: whether the episode knows them.

    frame: the frame that the extrinsics X_FC place the camera in.
    """

    height: int
    width: int
    encoding: FrameEncoding
    has_intrinsics: bool = False
    has_extrinsics: bool = False
    frame: str | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeDescription:
    """An episode without its data.

    episode_id: unique in its data set. rate_hz: of the control steps, where they are even.
    fields, cameras: by name, in the source's order. instructions: phrasings by kind ("original",
    "randomized", "verbose", "alternative"), possibly none. success: None where nobody noted it.
    provenance: free facts by name (robot, teacher, versions, source).
    """

    episode_id: str
    num_steps: int
    rate_hz: float | None
    fields: Mapping[str, Field]
    cameras: Mapping[str, Camera] = field(default_factory=dict)
    instructions: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    task: str | None = None
    success: bool | None = None
    seed: int | None = None
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise DataError("expected at least one control step", episode=self.episode_id)
        for name in ("fields", "cameras", "instructions", "provenance"):
            object.__setattr__(self, name, MappingProxyType(dict(getattr(self, name))))

    def __reduce__(self) -> tuple[Any, ...]:
        """Read-only views cannot be pickled; worker processes are sent what they show."""
        state = {k: dict(v) if isinstance(v, Mapping) else v for k, v in vars(self).items()}
        return _remake_description, (state,)


def _remake_description(state: dict[str, Any]) -> EpisodeDescription:
    return EpisodeDescription(**state)


class Episode(ABC):
    """Reads data of an episode. All ranges are `start` to `stop`, the last one left out."""

    @property
    @abstractmethod
    def description(self) -> EpisodeDescription: ...

    @abstractmethod
    def times_s(self) -> FloatArray:
        """(T,), since the episode began; NaN where the source tells neither times nor rate."""

    @abstractmethod
    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """(stop - start, *shape) of a field, in its own dtype.

        Raises DataError for an unknown field, a range beyond the episode or a corrupt source.
        """

    def read_fields(
        self, names: Sequence[str], start: int = 0, stop: int | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        """Several fields at once, which some formats keep together. Read-only."""
        return {name: self.read(name, start, stop) for name in names}

    @abstractmethod
    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        """(len(steps), H, W, 3) RGB, in the order asked, a step possibly several times."""

    def encoded_frames(self, camera: str, steps: Sequence[int]) -> list[bytes] | None:
        """JPEG or PNG files as they are stored, so that a copy need not decode; None if not."""
        del camera, steps
        return None

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """(stop - start, 3, 3), in pixels of the frames as they are given."""
        del start, stop
        raise DataError(f"camera {camera!r} has no intrinsics", episode=self.description.episode_id)

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        """(stop - start, 4, 4) X_FC, the camera in the frame that its description names."""
        del start, stop
        raise DataError(f"camera {camera!r} has no extrinsics", episode=self.description.episode_id)

    def check_range(self, name: str, start: int, stop: int | None) -> tuple[Field, int, int]:
        """The field and the range, or a DataError that names what is near."""
        description = self.description
        if name not in description.fields:
            raise DataError(
                f"no such field{_near(name, description.fields)}; "
                f"there are {sorted(description.fields)}",
                episode=description.episode_id,
                field=name,
            )
        end = description.num_steps if stop is None else stop
        if not 0 <= start <= end <= description.num_steps:
            raise DataError(
                f"expected steps within 0 to {description.num_steps}, got {start} to {end}",
                episode=description.episode_id,
                field=name,
            )
        return description.fields[name], start, end

    def check_steps(self, camera: str, steps: Sequence[int]) -> Camera:
        """The camera, or a DataError that names what is near."""
        description = self.description
        if camera not in description.cameras:
            raise DataError(
                f"no camera {camera!r}{_near(camera, description.cameras)}; "
                f"there are {sorted(description.cameras)}",
                episode=description.episode_id,
            )
        for step in steps:
            if not 0 <= step < description.num_steps:
                raise DataError(
                    f"camera {camera!r}: expected steps from 0 to {description.num_steps - 1}, "
                    f"got {step}",
                    episode=description.episode_id,
                )
        return description.cameras[camera]


class Dataset(ABC):
    """Episodes in one place, in one order. Opening one reads what lists them, no more."""

    format_name: str
    where: str

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def episode(self, index: int) -> Episode:
        """Raises DataError where it is not whole; the others stay readable."""

    def __iter__(self) -> Iterator[Episode]:
        for index in range(len(self)):
            yield self.episode(index)

    @property
    def digest(self) -> str:
        """SHA-256 that changes where the data does: here over all fields' values. Formats that
        keep checksums know it without reading, and with the frames."""
        hasher = hashlib.sha256()
        for episode in self:
            description = episode.description
            hasher.update(f"{description.episode_id} {description.num_steps}\n".encode())
            for name in description.fields:
                array = np.ascontiguousarray(episode.read(name))
                hasher.update(f"{name} {array.dtype.str}\n".encode())
                hasher.update(array.tobytes())
        return hasher.hexdigest()

    def read_frames(
        self, index: int, steps: Sequence[int], out: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        """Fill (len(steps), H, W, 3) arrays by camera with an episode's frames."""
        episode = self.episode(index)
        for camera, frames in out.items():
            frames[...] = episode.frames(camera, steps)


def _near(name: str, known: Mapping[str, Any]) -> str:
    close = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""
