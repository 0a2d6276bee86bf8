"""An episode of a LeRobot data set, of either layout: rows of a parquet file and spans of videos.

Axes: T control step, H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from policy_interface.types import FloatArray
from trainer.data.description_json import description_from_json
from trainer.data.episode import Episode, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.formats.lerobot_info import Feature, LeRobotInfo
from trainer.data.formats.lerobot_language import LANGUAGE_COLUMN, Language, language_of
from trainer.data.formats.parquet_rows import open_parquet, to_numpy
from trainer.data.image_files import decode_frames
from trainer.data.instructions import INSTRUCTION_FIELD, SUBTASK_FIELD
from trainer.data.locations import Location
from trainer.data.video_frames import read_video_frames

_PLACE_OF_A_TEXT = Field(shape=(), dtype="int64", role="other")


@dataclass(frozen=True, kw_only=True)
class VideoSpan:
    """Where in a video an episode's frames begin, and end where that is noted."""

    video: Location
    begin_s: float
    end_s: float | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodePlace:
    """Where an episode's data lies, as the data set's tables say.

    videos: by camera. tasks: what the episode was told. facts: what the view knew of an episode
    that this project wrote, as JSON knows it.
    """

    index: int
    num_steps: int
    data: Location
    videos: Mapping[str, VideoSpan]
    tasks: tuple[str, ...]
    success: bool | None = None
    facts: Mapping[str, Any] | None = None


@dataclass(frozen=True, kw_only=True)
class LeRobotTables:
    """What all episodes of a data set have in common.

    opening: tells this opening of the data set from an earlier one. tasks: by task_index.
    changes_task: whether any episode has several.
    """

    opening: str
    info: LeRobotInfo
    tasks: Mapping[int, str]
    changes_task: bool


class LeRobotEpisode(Episode):
    """Raises DataError where a video is noted to be shorter than the rows."""

    def __init__(self, tables: LeRobotTables, place: EpisodePlace) -> None:
        self._tables, self._info, self._place = tables, tables.info, place
        self._rows_start: int | None = None
        self._language = self._read_language()
        self._description = self._describe()
        for name, span in place.videos.items():
            self._check_span(name, span)

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        times = self._column(self._info.time_column, 0, self._place.num_steps).reshape(-1)
        return times.astype(np.float64) - times[0]

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        field, start, stop = self.check_range(name, start, stop)
        if name == INSTRUCTION_FIELD and name not in self._info.fields:
            return self._instruction_index(start, stop)
        if name == SUBTASK_FIELD and name not in self._info.fields:
            times = self._column(self._info.time_column, start, stop).reshape(-1)
            return self._language.subtask_places(times)
        return self._numbers(self._info.fields[name].column, field, start, stop)

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        described = self.check_steps(camera, steps)
        size = (described.height, described.width)
        feature = self._info.cameras[camera]
        if not feature.is_video:
            files = self._files(feature, camera, steps)
            try:
                return decode_frames(files, steps, size)
            except DataError as error:
                raise self._error(f"camera {camera!r}, {error}") from error
        span = self._place.videos[camera]
        period_s = 1 / self._info.rate_hz
        try:
            return read_video_frames(
                span.video,
                [span.begin_s + step * period_s for step in steps],
                tolerance_s=period_s / 2,
                size=size,
            )
        except DataError as error:
            raise self._error(f"camera {camera!r}: {error}") from error

    def encoded_frames(self, camera: str, steps: Sequence[int]) -> list[bytes] | None:
        described = self.check_steps(camera, steps)
        feature = self._info.cameras[camera]
        if feature.is_video:
            return None
        files = self._files(feature, camera, steps)
        start = b"\xff\xd8" if described.encoding == "jpeg" else b"\x89PNG"
        return files if all(file.startswith(start) for file in files) else None

    def intrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if camera not in self._info.intrinsics:
            return super().intrinsics(camera, start, stop)
        return self._matrices(self._info.intrinsics[camera], 3, start, stop)

    def extrinsics(self, camera: str, start: int = 0, stop: int | None = None) -> FloatArray:
        if camera not in self._info.extrinsics:
            return super().extrinsics(camera, start, stop)
        return self._matrices(self._info.extrinsics[camera], 4, start, stop)

    def _describe(self) -> EpisodeDescription:
        info, place = self._info, self._place
        fields = {name: feature.field for name, feature in info.fields.items() if feature.field}
        if self._tables.changes_task and INSTRUCTION_FIELD not in fields:
            fields[INSTRUCTION_FIELD] = _PLACE_OF_A_TEXT
        if info.has_language and SUBTASK_FIELD not in fields:
            fields[SUBTASK_FIELD] = _PLACE_OF_A_TEXT
        cameras = {name: feature.camera for name, feature in info.cameras.items() if feature.camera}
        if place.facts is not None:
            try:
                description = description_from_json(place.facts, fields, cameras)
            except (KeyError, TypeError) as error:
                raise self._error(
                    f"its facts are not those that this project writes: {error}"
                ) from error
            return replace(description, num_steps=place.num_steps)
        provenance = {"codebase_version": info.version}
        if info.robot:
            provenance["robot"] = info.robot
        if info.left_out:
            told = (f"{name} ({why})" for name, why in info.left_out.items())
            provenance["features_left_out"] = ", ".join(told)
        return EpisodeDescription(
            episode_id=f"episode_{place.index:06d}",
            num_steps=place.num_steps,
            rate_hz=info.rate_hz,
            fields=fields,
            cameras=cameras,
            instructions={
                **({"original": place.tasks} if place.tasks else {}),
                **self._language.instructions,
            },
            task=place.tasks[0] if len(place.tasks) == 1 else None,
            success=place.success,
            provenance=provenance,
        )

    def _read_language(self) -> Language:
        """Nothing for an episode that this project wrote: its facts have all instructions."""
        if not self._info.has_language or self._place.facts is not None:
            return Language()
        try:
            (annotations,) = self._read_rows(LANGUAGE_COLUMN, 0, 1).to_pylist()
            return language_of(annotations)
        except (pa.ArrowException, ValueError) as error:
            raise self._error(str(error), field=LANGUAGE_COLUMN) from error

    def _check_span(self, camera: str, span: VideoSpan) -> None:
        if span.end_s is None:
            return
        num_frames = round((span.end_s - span.begin_s) * self._info.rate_hz)
        if num_frames < self._place.num_steps:
            raise self._error(
                f"camera {camera!r}: the video {span.video} has {num_frames} frames of this "
                f"episode, but there are {self._place.num_steps} rows"
            )

    def _instruction_index(self, start: int, stop: int) -> npt.NDArray[Any]:
        numbers = self._column("task_index", start, stop).reshape(-1)
        places: dict[int, int] = {}
        for number in np.unique(numbers):
            text = self._tables.tasks.get(int(number))
            if text not in self._place.tasks:
                raise self._error(
                    f"task_index {number} is {text!r}, which is none of the episode's tasks "
                    f"{list(self._place.tasks)}"
                )
            places[int(number)] = self._place.tasks.index(text)
        return np.array([places[int(number)] for number in numbers], dtype=np.int64)

    def _numbers(self, column: str, field: Field, start: int, stop: int) -> npt.NDArray[Any]:
        numbers = self._column(column, start, stop)
        expected = (stop - start, *field.shape)
        # LeRobot stores a list of one number as the number, and this project a matrix as a list.
        if numbers.size != int(np.prod(expected)):
            raise self._error(
                f"expected {field.shape} a row, got {numbers.shape[1:]}", field=column
            )
        return numbers.astype(field.dtype, copy=False).reshape(expected)

    def _matrices(self, column: str, side: int, start: int, stop: int | None) -> FloatArray:
        end = self._place.num_steps if stop is None else stop
        field = Field(shape=(side, side), dtype="float64")
        return self._numbers(column, field, start, end)

    def _column(self, column: str, start: int, stop: int) -> npt.NDArray[Any]:
        try:
            return to_numpy(self._read_rows(column, start, stop))
        except DataError as error:
            raise self._error(str(error), field=column) from error

    def _read_rows(self, column: str, start: int, stop: int) -> pa.ChunkedArray:
        rows = open_parquet(self._place.data, self._tables.opening)
        if self._rows_start is None:
            first, num_rows = rows.episode_rows(self._place.index)
            if num_rows != self._place.num_steps:
                raise DataError(
                    f"the episode has {self._place.num_steps} steps by the table of episodes, "
                    f"but {num_rows} rows",
                    where=self._place.data,
                )
            self._rows_start = first
        return rows.read(column, self._rows_start + start, self._rows_start + stop)

    def _files(self, feature: Feature, camera: str, steps: Sequence[int]) -> list[bytes]:
        """The images of a column: their bytes, or files whose paths the rows hold."""
        if not len(steps):
            return []
        first, last = min(steps), max(steps)
        try:
            rows = self._read_rows(feature.column, first, last + 1)
        except DataError as error:
            raise self._error(str(error), field=feature.column) from error
        files = {step: rows[step - first].as_py() for step in set(steps)}
        return [self._file(files[step], camera, step) for step in steps]

    def _file(self, value: Any, camera: str, step: int) -> bytes:
        if isinstance(value, bytes):
            return value
        if isinstance(value, dict) and value.get("bytes"):
            return value["bytes"]
        if isinstance(value, dict) and value.get("path"):
            try:
                file = self._info.location.inside(value["path"])
            except DataError as error:
                raise self._error(f"camera {camera!r}, step {step}: {error}") from error
            if file.is_file():
                return file.read_bytes()
        raise self._error(f"camera {camera!r}, step {step}: no image in the row")

    def _error(self, message: str, field: str | None = None) -> DataError:
        return DataError(message, episode=f"episode_{self._place.index:06d}", field=field)
