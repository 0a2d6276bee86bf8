"""The training format: what every other one is converted to. docs/data.md argues for it.

    box/
        manifest.json              descriptions, sizes, SHA-256
        episodes/000000.episode    frames and rows; see native_layout

`NativeDataset.reader()` is the quick way in, for a loader; the episodes are the same data behind
the one view that all formats have.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.description_json import description_to_json
from trainer.data.episode import Dataset, Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.native_layout import (
    TIME,
    extrinsics_column,
    intrinsics_column,
    read_footer,
)
from trainer.data.formats.native_manifest import MANIFEST_NAME, NativeManifest
from trainer.data.formats.native_reader import DEFAULT_OPEN_FILES, NativeReader
from trainer.data.formats.writer import GO_ON, LEDGER_FOLDER, UNFINISHED
from trainer.data.locations import Location

_READ_SIZE = 1 << 20


def recognises(location: Location) -> bool:
    # Other formats have a manifest of their own; this one has this folder beside it.
    return (location / "episodes").is_dir() and (
        (location / MANIFEST_NAME).is_file() or _begun(location)
    )


def open_dataset(location: Location, *, unfinished: bool = False) -> NativeDataset:
    """unfinished: open what a conversion that was stopped has written so far.

    Raises DataError for a manifest that is not whole, and for an unfinished data set: a policy
    trained on half of the data without anybody's knowledge is worth an error.
    """
    if not (location / MANIFEST_NAME).is_file() and _begun(location):
        raise DataError(UNFINISHED, where=location)
    manifest = NativeManifest.load(location)
    if not (manifest.complete or unfinished):
        raise DataError(
            f"the conversion stopped after {len(manifest.episodes)} episodes; {GO_ON}",
            where=location,
        )
    return NativeDataset(location, manifest)


def _begun(location: Location) -> bool:
    return (location / LEDGER_FOLDER).is_dir()


class NativeDataset(Dataset):
    """digest: SHA-256 over the descriptions and the checksums of all files."""

    format_name = "native"

    def __init__(self, location: Location, manifest: NativeManifest) -> None:
        self.where = str(location)
        self.location, self.manifest = location, manifest

    def __len__(self) -> int:
        return len(self.manifest.episodes)

    def __reduce__(self) -> tuple[Any, ...]:
        return _reopen, (self.where,)

    @property
    def digest(self) -> str:
        return self.manifest.digest

    def episode(self, index: int) -> NativeEpisode:
        return NativeEpisode(self._shared_reader, index, self.manifest.description(index))

    def read_frames(
        self, index: int, steps: Sequence[int], out: Mapping[str, npt.NDArray[np.uint8]]
    ) -> None:
        """Decodes straight into the arrays."""
        self._shared_reader.images(index, steps, list(out), out)

    def reader(self, max_open_files: int = DEFAULT_OPEN_FILES) -> NativeReader:
        """For a loader's worker. It can be pickled."""
        return NativeReader(self.location, self.manifest, max_open_files)

    @cached_property
    def _shared_reader(self) -> NativeReader:
        return self.reader()

    def verify(self) -> Iterator[DataError | None]:
        """Read every byte: for each episode None, or what is wrong with it."""
        for index in range(len(self)):
            yield self._verify_episode(index)

    def _verify_episode(self, index: int) -> DataError | None:
        record, description = self.manifest.episodes[index], self.manifest.description(index)
        place = self.location / record.file
        try:
            path = self.location.inside(record.file).local()
            digest, size = _hash_file(path)
            if (digest, size) != (record.sha256, record.num_bytes):
                raise DataError(
                    f"expected {record.num_bytes} bytes of SHA-256 {record.sha256}, "
                    f"got {size} of {digest}",
                    where=place,
                    episode=description.episode_id,
                )
            told = json.loads(json.dumps(description_to_json(description)))
            if read_footer(path)["description"] != told:
                raise DataError(
                    "the manifest describes another episode",
                    where=place,
                    episode=description.episode_id,
                )
        except OSError as error:
            return DataError(str(error), where=place, episode=description.episode_id)
        except DataError as error:
            return error
        return None


class NativeEpisode(Episode):
    """One episode; `rows` gives all its low-dimensional data at once."""

    def __init__(self, reader: NativeReader, index: int, description: EpisodeDescription) -> None:
        self._reader, self._index, self._description = reader, index, description

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def rows(self, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        """Records of `NativeReader.dtype`, every field a column."""
        stop = self._description.num_steps if stop is None else stop
        return self._reader.rows(self._index, start, stop)

    def times_s(self) -> FloatArray:
        return np.ascontiguousarray(self.rows()[TIME])

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        _, start, stop = self.check_range(name, start, stop)
        return np.ascontiguousarray(self.rows(start, stop)[name])

    def read_fields(
        self, names: Sequence[str], start: int = 0, stop: int | None = None
    ) -> dict[str, npt.NDArray[Any]]:
        for place, name in enumerate(names):
            if place == 0 or name not in self._description.fields:
                self.check_range(name, start, stop)
        rows = self.rows(start, stop)
        return {name: rows[name] for name in names}

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        self.check_steps(camera, steps)
        return self._reader.images(self._index, steps, [camera])[camera]

    def encoded_frames(self, camera: str, steps: Sequence[int]) -> list[bytes] | None:
        self.check_steps(camera, steps)
        files = self._reader.encoded_images(self._index, steps, [camera])
        return [bytes(file) for (file,) in files]

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if not self.check_steps(camera, ()).has_intrinsics:
            return super().intrinsics(camera, start, stop)
        return np.ascontiguousarray(self.rows(start, stop)[intrinsics_column(camera)])

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if not self.check_steps(camera, ()).has_extrinsics:
            return super().extrinsics(camera, start, stop)
        return np.ascontiguousarray(self.rows(start, stop)[extrinsics_column(camera)])


def _reopen(where: str) -> NativeDataset:
    return open_dataset(Location.parse(where), unfinished=True)


def _hash_file(path: Path) -> tuple[str, int]:
    hasher, size = hashlib.sha256(), 0
    with path.open("rb") as file:
        while chunk := file.read(_READ_SIZE):
            hasher.update(chunk)
            size += len(chunk)
    return hasher.hexdigest(), size
