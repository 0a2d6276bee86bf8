"""Windows out of the training format, as fast as the disk and the JPEG decoder allow.

reader = open_dataset("data/box").reader()
rows = reader.rows(episode, start, stop)     # one read, whatever the fields
rows["action/pose/right::panda"]             # (stop - start, 4, 4), a view
images = reader.images(episode, [step - 1, step])["scene_right_0"]   # (2, H, W, 3)

A reader may be used by several threads, and pickled to other processes, which open the files anew.
Plain reads at a position, not a memory map: a file that is cut while it is read gives an error
here, where a map would kill the process, and pages that were read do not count as its memory.
"""

from __future__ import annotations

import os
import struct
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import simplejpeg

from trainer.data.episode import Camera
from trainer.data.errors import DataError
from trainer.data.formats.native_layout import FRAME_BOUNDS, FRAMES_AT, row_dtype
from trainer.data.formats.native_manifest import NativeManifest
from trainer.data.formats.native_shared import SharedParts
from trainer.data.image_files import decode_image
from trainer.data.locations import Location

DEFAULT_OPEN_FILES = 64


class _OpenFile:
    """Closed when the last thread that reads from it lets go."""

    shared: SharedParts

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor

    def __del__(self) -> None:
        os.close(self.descriptor)


class NativeReader:
    """num_steps: (E,) of each episode, by its place in the manifest.

    dtype: of a row; its columns are the fields, and those that `native_layout` names. At most
    `max_open_files` files are open at once.
    """

    def __init__(
        self,
        location: Location,
        manifest: NativeManifest,
        max_open_files: int = DEFAULT_OPEN_FILES,
    ) -> None:
        self._location, self._manifest = location, manifest
        self._max_open_files = max_open_files
        self._records = manifest.episodes
        self.dtype = row_dtype(manifest.fields, manifest.cameras)
        self.cameras: Mapping[str, Camera] = manifest.cameras
        self.num_steps = np.array([r.facts["num_steps"] for r in self._records], dtype=np.int64)
        self._lengths = [int(steps) for steps in self.num_steps]
        self._camera_places = {name: place for place, name in enumerate(manifest.cameras)}
        self._bounds = struct.Struct(f"<{len(manifest.cameras) + 1}Q")
        fields = self.dtype.fields or {}
        self._bounds_offset = int(fields[FRAME_BOUNDS][1]) if manifest.cameras else 0
        self._open: OrderedDict[int, _OpenFile] = OrderedDict()
        self._lock = threading.Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        place = f"{self._location}"
        return _reopen, (place, self._manifest.digest, self._max_open_files)

    def __len__(self) -> int:
        return len(self._records)

    def rows(self, episode: int, start: int, stop: int) -> npt.NDArray[Any]:
        """(stop - start,) records, read-only. Raises DataError beyond the episode."""
        if not 0 <= start <= stop <= self._lengths[episode]:
            raise self._error(
                episode,
                f"expected steps within 0 to {self._lengths[episode]}, got {start} to {stop}",
            )
        file = self._file(episode)
        size = file.shared.row_bytes
        position = self._records[episode].rows_at + start * size
        return file.shared.unpack(self._read(file, episode, position, (stop - start) * size))

    def encoded_images(
        self, episode: int, steps: Sequence[int], cameras: Sequence[str] | None = None
    ) -> list[list[memoryview]]:
        """For each step, the JPEG or PNG file of each camera; None means all, in their order."""
        names = self.cameras if cameras is None else cameras
        places = [self._camera_place(episode, name) for name in names]
        if not places:
            return [[] for _ in steps]
        first, last = min(places), max(places)
        file = self._file(episode)
        whole_file = file.shared.whole_file
        found = []
        for step in steps:
            bounds = self._frame_bounds(file, episode, step)
            begin = bounds[first]
            data = memoryview(self._read(file, episode, begin, bounds[last + 1] - begin))
            found.append(
                [whole_file(p, data[bounds[p] - begin : bounds[p + 1] - begin]) for p in places]
            )
        return found

    def images(
        self,
        episode: int,
        steps: Sequence[int],
        cameras: Sequence[str] | None = None,
        out: Mapping[str, npt.NDArray[np.uint8]] | None = None,
    ) -> Mapping[str, npt.NDArray[np.uint8]]:
        """(len(steps), H, W, 3) RGB by camera. out: contiguous arrays of these shapes to fill.

        Raises DataError naming the episode, camera and step of a corrupt frame.
        """
        names = list(self.cameras) if cameras is None else list(cameras)
        encoded = self.encoded_images(episode, steps, names)
        if out is None:
            out = {
                name: np.empty(
                    (len(steps), self.cameras[name].height, self.cameras[name].width, 3), np.uint8
                )
                for name in names
            }
        for place, step in enumerate(steps):
            for name, data in zip(names, encoded[place], strict=True):
                try:
                    _decode_into(data, out[name][place])
                except (DataError, ValueError) as error:
                    raise self._error(episode, f"camera {name!r}, step {step}: {error}") from error
        return out

    def _frame_bounds(self, file: _OpenFile, episode: int, step: int) -> tuple[int, ...]:
        if not 0 <= step < self._lengths[episode]:
            raise self._error(
                episode, f"expected steps from 0 to {self._lengths[episode] - 1}, got {step}"
            )
        rows_at = self._records[episode].rows_at
        position = rows_at + step * file.shared.row_bytes + self._bounds_offset
        bounds = self._bounds.unpack(self._read(file, episode, position, self._bounds.size))
        if bounds[0] < FRAMES_AT or bounds[-1] > rows_at or list(bounds) != sorted(bounds):
            raise self._error(episode, f"step {step}: its frames lie outside the file: corrupt")
        return bounds

    def _camera_place(self, episode: int, name: str) -> int:
        if name not in self._camera_places:
            raise self._error(episode, f"no camera {name!r}; there are {sorted(self.cameras)}")
        return self._camera_places[name]

    def _file(self, episode: int) -> _OpenFile:
        with self._lock:
            file = self._open.get(episode)
            if file is None:
                file = self._open_file(episode)
            else:
                self._open.move_to_end(episode)
            return file

    def _read(self, file: _OpenFile, episode: int, position: int, num_bytes: int) -> bytes:
        data = os.pread(file.descriptor, num_bytes, position)
        if len(data) != num_bytes:
            # A read of more than 2 GiB comes in parts; only at the file's end is one empty.
            parts = [data]
            while parts[-1] and sum(map(len, parts)) < num_bytes:
                done = sum(map(len, parts))
                parts.append(os.pread(file.descriptor, num_bytes - done, position + done))
            data = b"".join(parts)
            if len(data) != num_bytes:
                raise self._error(episode, "the file was cut short while it was read")
        return data

    def _open_file(self, episode: int) -> _OpenFile:
        record = self._records[episode]
        try:
            place = self._location.inside(record.file)
            file = _OpenFile(os.open(place.path if place.is_local else place.local(), os.O_RDONLY))
        except OSError as error:
            raise self._error(episode, f"cannot be opened: {error.strerror or error}") from error
        size = os.fstat(file.descriptor).st_size
        if size != record.num_bytes:
            raise self._error(
                episode, f"expected {record.num_bytes} bytes, got {size}: the file is not whole"
            )
        shared_at = record.rows_at - record.shared_bytes
        if not FRAMES_AT <= shared_at <= record.rows_at <= size:
            raise self._error(episode, "its rows lie outside the file: corrupt")
        file.shared = SharedParts.nothing(self.dtype, len(self.cameras))
        if record.shared_bytes:
            data = self._read(file, episode, shared_at, record.shared_bytes)
            try:
                file.shared = SharedParts.from_bytes(data, self.dtype, len(self.cameras))
            except DataError as error:
                raise self._error(episode, str(error)) from error
        if record.rows_at + self._lengths[episode] * file.shared.row_bytes > size:
            raise self._error(episode, "its rows lie outside the file: corrupt")
        self._open[episode] = file
        if len(self._open) > self._max_open_files:
            self._open.popitem(last=False)
        return file

    def _error(self, episode: int, message: str) -> DataError:
        record = self._records[episode]
        return DataError(
            message, where=self._location / record.file, episode=record.facts["episode_id"]
        )


def _reopen(place: str, digest: str, max_open_files: int) -> NativeReader:
    location = Location.parse(place)
    manifest = NativeManifest.load(location)
    if manifest.digest != digest:
        raise DataError("the data set was changed while it was in use", where=location)
    return NativeReader(location, manifest, max_open_files)


def _decode_into(data: memoryview, out: npt.NDArray[np.uint8]) -> None:
    """Raises DataError or ValueError where the image is corrupt or of another size."""
    if data[:2] == b"\xff\xd8":
        # Straight into the batch. A larger image does not fit, which is an error too.
        image = simplejpeg.decode_jpeg(data, colorspace="RGB", buffer=out)
    else:
        image = decode_image(data)
        if image.shape == out.shape:
            out[...] = image
    if image.shape != out.shape:
        raise DataError(f"expected {out.shape}, got {image.shape}")
