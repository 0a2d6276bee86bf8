"""Episodes made of arrays: for data in a shape of its own, and for tests.

episode = ArrayEpisode.make(
    "episode_000000",
    rate_hz=10.0,
    fields={"action": (Field(shape=(2,), role="action"), actions)},
    images={"front": frames},
)
convert(MemoryDataset([episode]), destination)
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Dataset, Episode, EpisodeDescription, Field
from trainer.data.errors import DataError


class ArrayEpisode(Episode):
    """fields: (T, *shape) arrays by name. images: (T, H, W, 3) uint8 by camera.

    intrinsics (T, 3, 3) and extrinsics (T, 4, 4) by camera, where known.
    """

    def __init__(
        self,
        description: EpisodeDescription,
        times_s: FloatArray,
        fields: Mapping[str, npt.NDArray[Any]],
        images: Mapping[str, npt.NDArray[np.uint8]],
        intrinsics: Mapping[str, FloatArray],
        extrinsics: Mapping[str, FloatArray],
    ) -> None:
        self._description = description
        self._times_s = times_s
        self._fields, self._images = dict(fields), dict(images)
        self._intrinsics, self._extrinsics = dict(intrinsics), dict(extrinsics)

    @staticmethod
    def make(
        episode_id: str,
        *,
        rate_hz: float,
        fields: Mapping[str, tuple[Field, npt.NDArray[Any]]],
        images: Mapping[str, npt.NDArray[np.uint8]] | None = None,
        intrinsics: Mapping[str, FloatArray] | None = None,
        extrinsics: Mapping[str, FloatArray] | None = None,
        camera_frame: str | None = None,
        times_s: FloatArray | None = None,
        **facts: Any,
    ) -> ArrayEpisode:
        """facts: what else an EpisodeDescription tells. Raises DataError for arrays that differ
        from their descriptions or from each other in length."""
        images, intrinsics, extrinsics = images or {}, intrinsics or {}, extrinsics or {}
        lengths = {name: len(array) for name, (_, array) in fields.items()}
        lengths |= {name: len(array) for name, array in images.items()}
        if len(set(lengths.values())) != 1:
            raise DataError(
                f"expected fields and images of one length, got {lengths}", episode=episode_id
            )
        num_steps = next(iter(lengths.values()))
        for name, (field, array) in fields.items():
            if array.shape[1:] != field.shape or array.dtype != np.dtype(field.dtype):
                raise DataError(
                    f"expected {field.shape} of {field.dtype} a step, "
                    f"got {array.shape[1:]} of {array.dtype}",
                    episode=episode_id,
                    field=name,
                )
        description = EpisodeDescription(
            episode_id=episode_id,
            num_steps=num_steps,
            rate_hz=rate_hz,
            fields={name: field for name, (field, _) in fields.items()},
            cameras={
                name: Camera(
                    height=frames.shape[1],
                    width=frames.shape[2],
                    encoding="raw",
                    has_intrinsics=name in intrinsics,
                    has_extrinsics=name in extrinsics,
                    frame=camera_frame if name in extrinsics else None,
                )
                for name, frames in images.items()
            },
            **facts,
        )
        return ArrayEpisode(
            description,
            np.arange(num_steps) / rate_hz if times_s is None else times_s,
            {name: array for name, (_, array) in fields.items()},
            images,
            intrinsics,
            extrinsics,
        )

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        return self._times_s

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        _, start, stop = self.check_range(name, start, stop)
        return self._fields[name][start:stop]

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        self.check_steps(camera, steps)
        return self._images[camera][np.asarray(steps, dtype=np.int64)]

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if camera not in self._intrinsics:
            return super().intrinsics(camera, start, stop)
        return self._intrinsics[camera][start:stop]

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if camera not in self._extrinsics:
            return super().extrinsics(camera, start, stop)
        return self._extrinsics[camera][start:stop]


class MemoryDataset(Dataset):
    """Episodes at hand, in the order given."""

    format_name = "memory"

    def __init__(self, episodes: Sequence[Episode], where: str = "memory") -> None:
        self._episodes = list(episodes)
        self.where = where

    def __len__(self) -> int:
        return len(self._episodes)

    def episode(self, index: int) -> Episode:
        return self._episodes[index]
