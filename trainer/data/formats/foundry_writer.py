"""Writes VLA Foundry's tar shards: windows of all episodes, shuffled, for its own training.

A frame is stored again for every window that shows it. Episodes are staged one by one, in any
process; `finish` deals their windows out to shards in an order that depends on `seed` alone.

Axes: N window, W step of the window, C column.
"""

from __future__ import annotations

import io
import json
import tarfile
import uuid
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt
import yaml

from trainer.data.episode import Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.foundry_fields import (
    Arrays,
    array_names,
    episode_arrays,
    relative_arrays,
)
from trainer.data.formats.foundry_statistics import merge_windows
from trainer.data.formats.staged_episodes import StagedEpisodes
from trainer.data.formats.writer import DatasetWriter, Origin, Receipt
from trainer.data.image_files import ImageSettings, files_to_store, resized_intrinsics
from trainer.data.instructions import SUBTASK_KIND, instruction_places
from trainer.data.windows import WindowSpec

_END_OF_TAR = b"\0" * 1024


@dataclass(frozen=True, kw_only=True)
class FoundryWriter(DatasetWriter):
    """destination: a local folder; the shards lie in its `shards`.

    window: by default every step is an anchor, so that every frame is in a window. images: always
    JPEG. seed: of the order of the windows.
    """

    destination: Path
    window: WindowSpec = field(
        default_factory=lambda: WindowSpec(
            past=1, future=14, max_padding_left=3, max_padding_right=15, image_offsets=(-1, 0)
        )
    )
    images: ImageSettings = field(default_factory=ImageSettings)
    windows_per_shard: int = 128
    seed: int = 0
    format_name = "foundry"

    def __post_init__(self) -> None:
        if self.images.encoding != "jpeg":
            raise DataError(f"Foundry's frames are JPEG, got {self.images.encoding!r}")
        if self.windows_per_shard < 1:
            raise DataError(f"windows_per_shard: expected 1 or more, got {self.windows_per_shard}")

    def settings(self) -> Mapping[str, Any]:
        return {
            "images": dict(self.images.to_json()),
            "windows_per_shard": self.windows_per_shard,
            "seed": self.seed,
            **_preprocessing_config(self.window),
        }

    def begin(self, first: EpisodeDescription) -> None:
        array_names(first)
        if not first.cameras:
            raise DataError("Foundry's loader passes over windows without a frame: no camera")
        for name in first.cameras:
            if "/" in name:
                raise DataError(f"camera {name!r}: a file's name has no slash")
        self._staged.begin()

    def write_episode(self, index: int, episode: Episode) -> Receipt:
        description = episode.description
        num_steps = description.num_steps
        anchors_N = self.window.anchors(num_steps)
        if not len(anchors_N):
            raise DataError(
                f"no window of {self.window.past} past and {self.window.future} future steps fits "
                f"its {num_steps} steps",
                episode=description.episode_id,
            )
        steps_NW, real_NW = self.window.steps(anchors_N, num_steps)
        arrays = episode_arrays(episode)
        windows = {name: self._padded(array[steps_NW], real_NW) for name, array in arrays.items()}
        windows |= relative_arrays(arrays, steps_NW, anchors_N)
        cameras = self._calibration(episode, steps_NW)
        with self._staged.writing(index) as folder:
            samples = self._samples(episode, anchors_N, real_NW, {**windows, **cameras})
            with (folder / "samples.tar").open("wb") as file:
                bounds = [0]
                for sample in samples:
                    file.write(sample)
                    bounds.append(bounds[-1] + len(sample))
            (folder / "bounds.json").write_text(json.dumps(bounds))
            _save_arrays(folder / "windows.npz", {**windows, "real": real_NW})
        return Receipt(
            index=index,
            episode_id=description.episode_id,
            num_steps=num_steps,
            num_bytes=bounds[-1],
            details={"num_windows": len(anchors_N)},
        )

    def is_whole(self, receipt: Receipt) -> bool:
        return self._staged.has(receipt.index)

    def finish(self, receipts: Sequence[Receipt], origin: Origin) -> None:
        if self._staged.is_complete:
            return
        parts = [self._staged.folder(receipt.index) for receipt in receipts]
        with self._staged.assembling() as folder:
            shards = folder / "shards"
            shards.mkdir()
            manifest = self._write_shards(shards, parts)
            (shards / "stats.json").write_text(json.dumps(merge_windows(map(_load_arrays, parts))))
            config = {
                **_preprocessing_config(self.window),
                # Which Foundry loads where its own configuration names none.
                "camera_names": list(origin.first.cameras),
                "jpeg_quality": self.images.quality,
            }
            (shards / "preprocessing_config.yaml").write_text(yaml.safe_dump(config))
            metadata = {
                "source": origin.place,
                "source_format": origin.format_name,
                "num_episodes": len(receipts),
                "episodes_skipped": {str(place): why for place, why in origin.skipped.items()},
                "seed": self.seed,
            }
            (shards / "processing_metadata.json").write_text(json.dumps(metadata, indent=2))
            (shards / "manifest.jsonl").write_text("".join(json.dumps(m) + "\n" for m in manifest))

    @property
    def _staged(self) -> StagedEpisodes:
        return StagedEpisodes(self.destination, "shards/manifest.jsonl")

    def _padded(
        self, windows: npt.NDArray[Any], real_NW: npt.NDArray[np.bool_]
    ) -> npt.NDArray[Any]:
        """What lies beyond the episode repeats its ends already; or is zero."""
        if self.window.padding == "zero":
            return np.where(real_NW[..., None], windows, np.zeros((), windows.dtype))
        return windows

    def _calibration(self, episode: Episode, steps_NW: npt.NDArray[np.int64]) -> Arrays:
        arrays: Arrays = {}
        for name, camera in episode.description.cameras.items():
            if camera.has_intrinsics:
                original = np.asarray(episode.intrinsics(name), np.float64)
                arrays[f"original_intrinsics.{name}"] = original[steps_NW]
                stored = resized_intrinsics(original, camera, self.images.stored_size(camera))
                arrays[f"rescaled_intrinsics.{name}"] = stored[steps_NW]
            if camera.has_extrinsics:
                arrays[f"extrinsics.{name}"] = np.asarray(episode.extrinsics(name))[steps_NW]
        return arrays

    def _samples(
        self,
        episode: Episode,
        anchors_N: npt.NDArray[np.int64],
        real_NW: npt.NDArray[np.bool_],
        arrays: Arrays,
    ) -> Iterator[bytes]:
        """Each window as the files of a tar, without its end."""
        description = episode.description
        image_steps_NF = self.window.image_steps(anchors_N, description.num_steps)
        needed = np.unique(image_steps_NF).tolist()
        files = {
            name: dict(zip(needed, files_to_store(episode, name, needed, self.images), strict=True))
            for name in description.cameras
        }
        past_mask_NW, future_mask_NW = self.window.masks(real_NW)
        instructions = _Instructions(episode)
        for place, anchor in enumerate(anchors_N.tolist()):
            key = uuid.uuid5(uuid.NAMESPACE_URL, f"{description.episode_id}/{anchor}")
            image_steps = image_steps_NF[place].tolist()
            lowdim = {name: array[place] for name, array in arrays.items()}
            lowdim |= {"past_mask": past_mask_NW[place], "future_mask": future_mask_NW[place]}
            members: dict[str, bytes] = {}
            for offset, step in zip(self.window.image_offsets, image_steps, strict=True):
                for name in description.cameras:
                    members[f"{name}_t{offset}.jpg"] = files[name][step]
            members["lowdim.npz"] = _npz(lowdim)
            metadata = self._metadata(description, str(key), anchor, image_steps, real_NW[place])
            members["metadata.json"] = json.dumps(metadata, indent=2).encode()
            told = json.dumps(instructions.at(anchor), indent=2)
            members["language_instructions.json"] = told.encode()
            yield _tar(f"{key}.", members)

    def _metadata(
        self,
        description: EpisodeDescription,
        key: str,
        anchor: int,
        image_steps: Sequence[int],
        real_W: npt.NDArray[np.bool_],
    ) -> Mapping[str, Any]:
        start, last = anchor - self.window.past, anchor + self.window.future
        metadata: dict[str, Any] = {
            "episode_id": description.episode_id,
            "sample_id": f"{key}_{description.episode_id}_t{anchor:04d}",
            "anchor_timestep": anchor,
            "anchor_relative_idx": self.window.past,
            "image_timesteps": list(image_steps),
            "lowdim_start_timestep": start,
            "lowdim_end_timestep": last,
            "past_padding": max(0, -start),
            "future_padding": max(0, last - description.num_steps + 1),
            "camera_names": list(description.cameras),
            "original_episode_length": description.num_steps,
            "original_image_sizes": {
                name: [camera.width, camera.height] for name, camera in description.cameras.items()
            },
            "is_padded": not bool(real_W.all()),
        }
        # What Foundry does not know of; its loader passes over them.
        ours = {
            "control_rate_hz": description.rate_hz,
            "task": description.task,
            "success": description.success,
            "seed": description.seed,
        }
        return metadata | {name: value for name, value in ours.items() if value is not None}

    def _write_shards(self, folder: Path, parts: Sequence[Path]) -> list[Mapping[str, Any]]:
        """Returns the lines of the manifest."""
        places: list[tuple[Path, int, int]] = []
        for part in parts:
            bounds: list[int] = json.loads((part / "bounds.json").read_text())
            places += [(part, start, stop) for start, stop in pairwise(bounds)]
        order = np.random.default_rng(self.seed).permutation(len(places))
        manifest: list[Mapping[str, Any]] = []
        for number, first in enumerate(range(0, len(order), self.windows_per_shard)):
            chosen = order[first : first + self.windows_per_shard]
            name = f"shard_{number:06d}"
            with (folder / f"{name}.tar").open("wb") as file:
                for place in chosen:
                    part, start, stop = places[place]
                    _copy(part, start, stop, file)
                file.write(_END_OF_TAR)
            manifest.append({"shard": name, "num_sequences": len(chosen)})
        return manifest


class _Instructions:
    """What the robot was told, by kind; where that changes in an episode, at each step."""

    def __init__(self, episode: Episode) -> None:
        told = episode.description.instructions
        # A training draws one of the texts, whatever the step: one of a part's would mislead it.
        self._told = {kind: list(texts) for kind, texts in told.items() if kind != SUBTASK_KIND}
        self._places = instruction_places(episode, len(self._told.get("original", ())))

    def at(self, step: int) -> Mapping[str, list[str]]:
        if self._places is None:
            return self._told
        return {**self._told, "original": [self._told["original"][self._places[step]]]}


def _preprocessing_config(window: WindowSpec) -> dict[str, Any]:
    """As Foundry calls it."""
    left, right = window.max_padding_left, window.max_padding_right
    if window.padding == "none":
        left = right = 0
    return {
        "past_lowdim_steps": window.past,
        "future_lowdim_steps": window.future,
        "max_padding_left": window.past if left is None else left,
        "max_padding_right": window.future if right is None else right,
        "padding_strategy": window.padding,
        "image_indices": list(window.image_offsets),
        "stride": window.stride,
    }


def _npz(arrays: Mapping[str, npt.NDArray[Any]]) -> bytes:
    buffer = io.BytesIO()
    np.savez_compressed(buffer, **arrays)  # pyright: ignore[reportArgumentType]
    return buffer.getvalue()


def _tar(prefix: str, members: Mapping[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    archive = tarfile.open(fileobj=buffer, mode="w")  # noqa: SIM115 (closing would end it)
    for name, data in members.items():
        info = tarfile.TarInfo(prefix + name)
        info.size = len(data)
        archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def _save_arrays(path: Path, arrays: Mapping[str, npt.NDArray[Any]]) -> None:
    with path.open("wb") as file:
        np.savez(file, **arrays)  # pyright: ignore[reportArgumentType]


def _load_arrays(part: Path) -> tuple[Arrays, npt.NDArray[Any]]:
    with np.load(part / "windows.npz", allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    real_NW = arrays.pop("real")
    return arrays, real_NW


def _copy(part: Path, start: int, stop: int, file: IO[bytes]) -> None:
    with (part / "samples.tar").open("rb") as source:
        source.seek(start)
        file.write(source.read(stop - start))
