"""An RLDS episode: one record, whose lists hold all steps one after the other.

Axes: T control step, H W image.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Camera, Episode, EpisodeDescription, Field
from trainer.data.errors import DataError
from trainer.data.formats.rlds_features import ImageFeature, StepFeatures
from trainer.data.formats.tfrecord import FeatureList, Record, parse_example
from trainer.data.image_files import decode_frames, image_size
from trainer.data.instructions import INSTRUCTION_FIELD

_STEPS = "steps/"


class RldsEpisode(Episode):
    """Raises DataError for a record that is corrupt or whose lists differ in length.

    A record is read whole, since its length is known from its lists alone; images stay encoded
    until they are asked for.
    """

    def __init__(self, episode_id: str, record: Record, features: StepFeatures) -> None:
        self._id, self._record, self._features = episode_id, record, features
        try:
            self._lists = parse_example(record.read())
        except DataError as error:
            raise DataError(str(error), episode=episode_id) from error
        except (ValueError, KeyError) as error:
            raise self._error(f"no episode: {error}") from error
        self._instructions, self._instruction_index = self._find_instructions()
        self._description = self._describe()

    @property
    def description(self) -> EpisodeDescription:
        return self._description

    def times_s(self) -> FloatArray:
        """NaN: RLDS does not tell."""
        return np.full(self._description.num_steps, np.nan)

    def read(self, name: str, start: int = 0, stop: int | None = None) -> npt.NDArray[Any]:
        field, start, stop = self.check_range(name, start, stop)
        if name == INSTRUCTION_FIELD and name not in self._features.fields:
            return self._instruction_index[start:stop]
        return self._numbers(name, field)[start:stop]

    def frames(self, camera: str, steps: Sequence[int]) -> npt.NDArray[np.uint8]:
        described = self.check_steps(camera, steps)
        files = [self._list(camera).values[step] for step in steps]
        try:
            return decode_frames(files, steps, (described.height, described.width))
        except DataError as error:
            raise self._error(f"camera {camera!r}, {error}") from error

    def encoded_frames(self, camera: str, steps: Sequence[int]) -> list[bytes]:
        self.check_steps(camera, steps)
        return [bytes(self._list(camera).values[step]) for step in steps]

    def _describe(self) -> EpisodeDescription:
        fields = dict(self._features.fields)
        lengths = {name: self._length(name, field) for name, field in fields.items()}
        lengths |= {name: len(self._list(name).values) for name in self._features.images}
        if len(set(lengths.values())) != 1:
            raise self._error(f"its fields and images differ in length: {lengths}")
        num_steps = next(iter(lengths.values()))
        if num_steps < 1:
            raise self._error("it has no steps")
        if self._instructions:
            fields[INSTRUCTION_FIELD] = Field(shape=(), dtype="int64")
            if len(self._instruction_index) != num_steps:
                told = len(self._instruction_index)
                raise self._error(f"it has {num_steps} steps, but {told} instructions")
        provenance, success = self._metadata()
        return EpisodeDescription(
            episode_id=self._id,
            num_steps=num_steps,
            rate_hz=None,
            fields=fields,
            cameras={
                name: self._camera(name, each) for name, each in self._features.images.items()
            },
            instructions={"original": self._instructions} if any(self._instructions) else {},
            success=success,
            provenance=provenance,
        )

    def _camera(self, name: str, feature: ImageFeature) -> Camera:
        height, width = feature.height, feature.width
        first = self._list(name).values[0]
        try:
            if height is None or width is None:
                height, width = image_size(first)
        except DataError as error:
            raise self._error(f"camera {name!r}, step 0: {error}") from error
        # What a data set says of its encoding is not always so.
        encoding = "jpeg" if bytes(first[:2]) == b"\xff\xd8" else "png"
        return Camera(height=height, width=width, encoding=encoding)

    def _metadata(self) -> tuple[Mapping[str, str], bool | None]:
        provenance: dict[str, str] = {}
        success: bool | None = None
        for name in self._features.metadata:
            values = self._lists.get(name)
            if values is None:
                continue
            if values.kind == 1:
                told = [text.decode(errors="replace") for text in values.bytes_list()]
            else:
                try:
                    told = [str(number) for number in values.numbers().tolist()]
                except ValueError as error:
                    raise self._error(f"{name}: {error}") from error
                if name.rsplit("/", 1)[-1] == "success" and len(told) == 1:
                    success = bool(float(told[0]))
            provenance[name] = ", ".join(told)
        if self._features.left_out:
            told = [f"{name} ({why})" for name, why in self._features.left_out.items()]
            provenance["features_left_out"] = ", ".join(told)
        return provenance, success

    def _find_instructions(self) -> tuple[tuple[str, ...], npt.NDArray[np.int64]]:
        """The episode's texts in the order that they appear, and which of them holds at a step."""
        name = self._features.instruction
        if name is None:
            return (), np.zeros(0, np.int64)
        texts = [text.decode(errors="replace") for text in self._list(name).bytes_list()]
        distinct = {text: place for place, text in enumerate(dict.fromkeys(texts))}
        return tuple(distinct), np.array([distinct[text] for text in texts], dtype=np.int64)

    def _list(self, name: str) -> FeatureList:
        if _STEPS + name not in self._lists:
            raise DataError(
                "the record has no such list", where=self._record.file, episode=self._id, field=name
            )
        return self._lists[_STEPS + name]

    def _length(self, name: str, field: Field) -> int:
        return len(self._numbers(name, field))

    def _numbers(self, name: str, field: Field) -> npt.NDArray[Any]:
        try:
            numbers = self._list(name).numbers().astype(field.dtype, copy=False)
            return numbers.reshape(-1, *field.shape)
        except DataError:
            raise
        except ValueError as error:
            raise DataError(
                f"its numbers are not {field.shape} a step: {error}",
                where=self._record.file,
                episode=self._id,
                field=name,
            ) from error

    def _error(self, message: str) -> DataError:
        return DataError(message, where=self._record.file, episode=self._id)
