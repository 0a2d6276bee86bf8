"""An episode that lies in VLA Foundry's shards as windows.

Axes: T control step, W step of a window, H W image.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.foundry_episodes import is_field, real_steps
from trainer.data.formats.foundry_index import FoundryWindow, Member
from trainer.data.formats.lbm_fields import LBM_RATE_HZ, TASK_FRAME, lbm_field
from trainer.data.formats.npz_members import NpzMembers
from trainer.data.image_files import decode_frames, image_size

# Windows whose arrays stay in memory: those of one pass over an episode's fields.
_MAX_WINDOWS_IN_MEMORY = 32
_LBM_PREFIX = "robot__"


class FoundryEpisode(Episode):
    """windows: by anchor. Raises DataError where they leave a step out in the middle.

    Steps at the ends whose frames no window holds are cut off: Foundry leaves out the last windows
    of an episode, which would need too much padding, and with them those frames.
    """

    def __init__(self, episode_id: str, windows: Sequence[FoundryWindow]) -> None:
        self._id = episode_id
        self._windows = list(windows)
        self._where = windows[0].shard
        self._arrays: OrderedDict[str, NpzMembers] = OrderedDict()
        self._steps = [real_steps(window) for window in windows]
        self._first_steps = np.array([steps.start for steps in self._steps])
        self._stop_steps = np.array([steps.stop for steps in self._steps])
        self._images = self._find_images()
        self._begin, stop = self._whole_range()
        self._headers = self._lowdim(self._windows[0]).headers()
        self._description = self._describe(stop - self._begin)

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        if self._description.rate_hz is None:
            return np.full(self._description.num_steps, np.nan)
        return np.arange(self._description.num_steps) / self._description.rate_hz

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        field, start, stop = self.check_range(name, start, stop)
        return self._gather(name, field.shape, np.dtype(field.dtype), start, stop)

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        described = self.check_steps(camera, steps)
        files = (self._images[camera][self._begin + step].read() for step in steps)
        try:
            return decode_frames(files, steps, (described.height, described.width))
        except DataError as error:
            raise self._error(f"camera {camera!r}, {error}") from error

    def encoded_frames(self, camera: str, steps: Sequence[int]) -> list[bytes]:
        self.check_steps(camera, steps)
        return [self._images[camera][self._begin + step].read() for step in steps]

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        described = self.check_steps(camera, ())
        name = self._intrinsics_array(camera, described.height, described.width)
        if name is None:
            return super().intrinsics(camera, start, stop)
        return self._matrices(name, 3, start, stop)

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        self.check_steps(camera, ())
        name = f"extrinsics.{camera}"
        if name not in self._headers:
            return super().extrinsics(camera, start, stop)
        return self._matrices(name, 4, start, stop)

    def _describe(self, num_steps: int) -> EpisodeDescription:
        first = self._windows[0]
        length = self._length()
        provenance = {"windows": str(len(self._windows))}
        if num_steps < length:
            provenance["steps_cut"] = (
                f"{self._begin} at the start and {length - self._begin - num_steps} at the end, "
                "whose frames are in no window"
            )
        told = first.metadata
        return EpisodeDescription(
            episode_id=self._id,
            num_steps=num_steps,
            rate_hz=self._rate_hz(),
            fields={
                name: lbm_field(name, header.shape[1:], header.dtype.name)
                for name, header in self._headers.items()
                if is_field(name) and header.dtype.kind in "biuf" and header.shape
            },
            cameras={name: self._camera(name) for name in self._images},
            instructions=first.instructions(),
            task=told.get("task"),
            success=told.get("success"),
            seed=told.get("seed"),
            provenance=provenance,
        )

    def _camera(self, name: str) -> Camera:
        file = self._images[name][self._begin]
        try:
            height, width = image_size(file.read())
        except DataError as error:
            raise DataError(
                f"camera {name!r}, step {self._begin}: {error}", where=file.shard, episode=self._id
            ) from error
        has_extrinsics = f"extrinsics.{name}" in self._headers
        return Camera(
            height=height,
            width=width,
            encoding="jpeg",
            has_intrinsics=self._intrinsics_array(name, height, width) is not None,
            has_extrinsics=has_extrinsics,
            frame=TASK_FRAME if has_extrinsics else None,
        )

    def _intrinsics_array(self, camera: str, height: int, width: int) -> str | None:
        """Of the frames as they are stored; the original ones only where nothing was resized."""
        if f"rescaled_intrinsics.{camera}" in self._headers:
            return f"rescaled_intrinsics.{camera}"
        sizes: Mapping[str, Any] = self._windows[0].metadata.get("original_image_sizes") or {}
        original = f"original_intrinsics.{camera}"
        unchanged = list(sizes.get(camera, ())) == [width, height]
        return original if original in self._headers and unchanged else None

    def _rate_hz(self) -> float | None:
        told = self._windows[0].metadata
        if "control_rate_hz" in told:
            return float(told["control_rate_hz"])
        if any(name.startswith(_LBM_PREFIX) for name in self._headers):
            return LBM_RATE_HZ
        last = self._windows[-1]
        if "timestamp" in told and last.anchor > self._windows[0].anchor:
            duration_s = float(last.metadata["timestamp"]) - float(told["timestamp"])
            if duration_s > 0:
                return round((last.anchor - self._windows[0].anchor) / duration_s, 3)
        return None

    def _length(self) -> int:
        """Of the whole episode, in control steps."""
        told = self._windows[0].metadata.get("original_episode_length")
        return int(self._stop_steps.max()) if told is None else int(told)

    def _find_images(self) -> dict[str, dict[int, Member]]:
        """By camera and control step. Beyond the episode's ends Foundry repeats a frame."""
        last = self._length() - 1
        images: dict[str, dict[int, Member]] = {}
        for window in self._windows:
            for (camera, offset), member in window.images.items():
                step = min(max(window.anchor + offset, 0), last)
                images.setdefault(camera, {}).setdefault(step, member)
        return images

    def _whole_range(self) -> tuple[int, int]:
        """The steps of which everything is there: the first, and the one after the last."""
        whole = {step for steps in self._steps for step in steps}
        for of_camera in self._images.values():
            whole &= of_camera.keys()
        if not whole:
            raise self._error("no step has both its numbers and its frames in the windows")
        begin, stop = min(whole), max(whole) + 1
        missing = [step for step in range(begin, stop) if step not in whole]
        if missing:
            raise self._error(
                f"{len(missing)} of the steps {begin} to {stop - 1} are in no window, such as step "
                f"{missing[0]}: shards are missing, or still samples were left out"
            )
        return begin, stop

    def _matrices(self, name: str, side: int, start: int, stop: int | None) -> FloatArray:
        end = self._description.num_steps if stop is None else stop
        return self._gather(name, (side, side), np.dtype(np.float64), start, end)

    def _gather(
        self, name: str, shape: tuple[int, ...], dtype: np.dtype[Any], start: int, stop: int
    ) -> npt.NDArray[Any]:
        """Rows of an array, from as few windows as hold them."""
        gathered = np.empty((stop - start, *shape), dtype)
        step, end = self._begin + start, self._begin + stop
        while step < end:
            holding = (self._first_steps <= step) & (step < self._stop_steps)
            place = int(np.argmax(np.where(holding, self._stop_steps, -1)))
            window = self._windows[place]
            until = min(end, int(self._stop_steps[place]))
            first = window.anchor - window.past
            try:
                rows = self._lowdim(window).read(name, step - first, until - first)
            except DataError as error:
                raise DataError(str(error), episode=self._id, field=name) from error
            if rows.shape[1:] != shape:
                raise DataError(
                    f"expected {shape} a step, got {rows.shape[1:]} in window {window.key}",
                    where=window.shard,
                    episode=self._id,
                    field=name,
                )
            gathered[step - self._begin - start : until - self._begin - start] = rows
            step = until
        return gathered

    def _lowdim(self, window: FoundryWindow) -> NpzMembers:
        if window.key not in self._arrays:
            self._arrays[window.key] = window.lowdim()
            if len(self._arrays) > _MAX_WINDOWS_IN_MEMORY:
                self._arrays.popitem(last=False)
        self._arrays.move_to_end(window.key)
        return self._arrays[window.key]

    def _error(self, message: str) -> DataError:
        return DataError(message, where=self._where, episode=self._id)
