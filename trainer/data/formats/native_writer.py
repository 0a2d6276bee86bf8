"""Writes the training format, an episode at a time, in any process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.atomic_file import atomic_file, remove_partial_files
from trainer.data.description_json import facts_to_json
from trainer.data.episode import Camera, Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.native_layout import (
    ALIGNMENT,
    FRAME_BOUNDS,
    TIME,
    extrinsics_column,
    file_footer,
    file_header,
    intrinsics_column,
    row_dtype,
)
from trainer.data.formats.native_manifest import (
    MANIFEST_NAME,
    EpisodeRecord,
    NativeManifest,
)
from trainer.data.formats.native_shared import (
    SharedParts,
    common_beginning,
    without_beginning,
)
from trainer.data.formats.writer import DatasetWriter, Origin, Receipt
from trainer.data.image_files import ImageSettings, files_to_store, resized_intrinsics

# Decoded frames of one camera in memory at once, in bytes. Large, because compressed sources are
# inflated from their beginning for each chunk.
_CHUNK_BYTES = 256 << 20
# What the files of so many have in common, those of later steps are taken to have too.
_COMPARED_STEPS = 16


@dataclass(frozen=True, kw_only=True)
class NativeWriter(DatasetWriter):
    """destination: a local folder. images: how frames are stored."""

    destination: Path
    images: ImageSettings = field(default_factory=ImageSettings)
    format_name = "native"

    def settings(self) -> Mapping[str, Any]:
        return {"images": dict(self.images.to_json())}

    def begin(self, first: EpisodeDescription) -> None:
        row_dtype(first.fields, first.cameras)
        self._folder.mkdir(exist_ok=True)
        for folder in (self._folder, self.destination):
            remove_partial_files(folder)

    def write_episode(self, index: int, episode: Episode) -> Receipt:
        described = self._stored_description(episode.description)
        path = self._folder / f"{index:06d}.episode"
        with atomic_file(path) as file:
            written = _HashedFile(file)
            rows_at, shared_bytes = self._write_into(written, described, episode)
        record = EpisodeRecord(
            file=f"{self._folder.name}/{path.name}",
            num_bytes=written.position,
            sha256=written.hasher.hexdigest(),
            rows_at=rows_at,
            shared_bytes=shared_bytes,
            facts=facts_to_json(described),
        )
        return Receipt(
            index=index,
            episode_id=described.episode_id,
            num_steps=described.num_steps,
            num_bytes=written.position,
            details=record.to_json(),
        )

    def is_whole(self, receipt: Receipt) -> bool:
        path = self.destination / receipt.details["file"]
        return path.is_file() and path.stat().st_size == receipt.num_bytes

    def checkpoint(self, receipts: Sequence[Receipt], origin: Origin) -> None:
        if receipts:
            self._save_manifest(receipts, origin, complete=False)

    def finish(self, receipts: Sequence[Receipt], origin: Origin) -> None:
        self._save_manifest(receipts, origin, complete=True)

    @property
    def _folder(self) -> Path:
        return self.destination / "episodes"

    def _save_manifest(
        self, receipts: Sequence[Receipt], origin: Origin, *, complete: bool
    ) -> None:
        stored = self._stored_description(origin.first)
        NativeManifest(
            complete=complete,
            fields=stored.fields,
            cameras=stored.cameras,
            episodes=tuple(EpisodeRecord(**receipt.details) for receipt in receipts),
            source={
                "place": origin.place,
                "format": origin.format_name,
                "left_out": origin.left_out,
                "skipped": [
                    {"index": index, "reason": reason} for index, reason in origin.skipped.items()
                ],
            },
            settings=self.settings(),
        ).save(self.destination / MANIFEST_NAME)

    def _stored_description(self, source: EpisodeDescription) -> EpisodeDescription:
        cameras: dict[str, Camera] = {}
        for name, camera in source.cameras.items():
            height, width = self.images.stored_size(camera)
            encoding = self.images.stored_encoding(camera)
            cameras[name] = replace(camera, height=height, width=width, encoding=encoding)
        return replace(source, cameras=cameras)

    def _write_into(
        self, written: _HashedFile, described: EpisodeDescription, episode: Episode
    ) -> tuple[int, int]:
        """Returns where the rows begin, and how many bytes in front of them are shared."""
        dtype = row_dtype(described.fields, described.cameras)
        # Low-dimensional data first: where they are bad, no frame was decoded for nothing.
        rows = self._rows(dtype, described, episode)
        written.write(file_header())
        beginnings: list[bytes] = []
        if described.cameras:
            steps = self._files(episode)
            first = list(islice(steps, _COMPARED_STEPS))
            beginnings = [common_beginning(files) for files in zip(*first, strict=True)]
            bounds = rows[FRAME_BOUNDS]
            for step, files in enumerate(chain(first, steps)):
                for place, (beginning, data) in enumerate(zip(beginnings, files, strict=True)):
                    bounds[step, place] = written.position
                    written.write(without_beginning(beginning, data))
                bounds[step, -1] = written.position
        shared = SharedParts.of(rows, beginnings)
        shared_at = written.position
        written.write(shared.to_bytes())
        written.write(b"\0" * (-written.position % ALIGNMENT))
        rows_at = written.position
        written.write(shared.pack(rows))
        written.write(file_footer(described, shared, shared_at, rows_at))
        return rows_at, rows_at - shared_at

    def _rows(
        self, dtype: np.dtype[Any], described: EpisodeDescription, episode: Episode
    ) -> npt.NDArray[Any]:
        # Zeros, so that the bytes between columns do not differ from one conversion to the next.
        rows = np.zeros(described.num_steps, dtype)

        def fill(column: str, field: str, values: npt.NDArray[Any]) -> None:
            expected, base = rows[column].shape, rows[column].dtype.newbyteorder("<")
            if values.shape != expected or values.dtype.newbyteorder("<") != base:
                raise DataError(
                    f"expected {expected} of {base.name}, got {values.shape} of {values.dtype}",
                    episode=described.episode_id,
                    field=field,
                )
            rows[column] = values

        fill(TIME, "times_s", np.asarray(episode.times_s(), np.float64))
        for name, values in episode.read_fields(list(described.fields)).items():
            fill(name, name, values)
        for name, camera in episode.description.cameras.items():
            if camera.has_intrinsics:
                matrices: FloatArray = np.asarray(episode.intrinsics(name), np.float64)
                size = self.images.stored_size(camera)
                fill(
                    intrinsics_column(name),
                    f"intrinsics of {name}",
                    resized_intrinsics(matrices, camera, size),
                )
            if camera.has_extrinsics:
                matrices = np.asarray(episode.extrinsics(name), np.float64)
                fill(extrinsics_column(name), f"extrinsics of {name}", matrices)
        return rows

    def _files(self, episode: Episode) -> Iterator[tuple[bytes, ...]]:
        """For each step, the file of each camera."""
        description = episode.description
        step_bytes = max(3 * c.height * c.width for c in description.cameras.values())
        chunk = max(1, _CHUNK_BYTES // step_bytes)
        for start in range(0, description.num_steps, chunk):
            steps = range(start, min(start + chunk, description.num_steps))
            tracks = [
                files_to_store(episode, name, steps, self.images) for name in description.cameras
            ]
            yield from zip(*tracks, strict=True)


class _HashedFile:
    """Counts and hashes what is written, so that the checksum costs no second read."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.hasher = hashlib.sha256()
        self.position = 0

    def write(self, data: bytes | memoryview) -> None:
        self._file.write(data)
        self.hasher.update(data)
        self.position += len(data)
