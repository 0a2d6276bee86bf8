"""Writes LeRobot's version 3, which LeRobot itself reads.

Episodes are staged one by one, in any process; `finish` puts them together to files of the sizes
that LeRobot takes, copying rows and encoded frames, which needs the space of the videos once more
for a moment.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.description_json import facts_to_json
from trainer.data.episode import Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.formats.lerobot_assembly import assemble
from trainer.data.formats.lerobot_columns import (
    bookkeeping_features,
    camera_column,
    number_columns,
    read_columns,
)
from trainer.data.formats.lerobot_info import ASSAY_KEY
from trainer.data.formats.lerobot_language import (
    LANGUAGE_COLUMN,
    language_column,
    language_features,
    read_language,
)
from trainer.data.formats.lerobot_statistics import steps_of_frames, summary_of_frames
from trainer.data.formats.staged_episodes import StagedEpisodes
from trainer.data.formats.writer import DatasetWriter, Origin, Receipt
from trainer.data.image_files import ImageSettings, files_to_store, resize_image
from trainer.data.instructions import instruction_places, task_phrasings
from trainer.data.video_writing import VideoSettings, encode_video

# Frames in memory at once.
_CHUNK_BYTES = 64 << 20


@dataclass(frozen=True, kw_only=True)
class LeRobotWriter(DatasetWriter):
    """destination: a local folder. video: how frames are encoded; None stores them as images in the
    rows, as `images` says. The size that `images` asks for holds for videos too. max_data_mb,
    max_video_mb: of a file."""

    destination: Path
    video: VideoSettings | None = field(default_factory=VideoSettings)
    images: ImageSettings = field(default_factory=lambda: ImageSettings(encoding="png"))
    max_data_mb: float = 100.0
    max_video_mb: float = 200.0
    format_name = "lerobot-v3"

    def settings(self) -> Mapping[str, Any]:
        if self.video is None:
            return {"images": dict(self.images.to_json())}
        return {
            "size": self.images.to_json()["size"],
            "codec": self.video.codec,
            "quality": self.video.constant_rate_factor,
            "key_frame_every": self.video.key_frame_every,
        }

    def begin(self, first: EpisodeDescription) -> None:
        self.features(first)
        if first.rate_hz is None:
            raise DataError("LeRobot wants evenly spaced steps, and this episode tells of no rate")
        for name, camera in first.cameras.items():
            height, width = self.images.stored_size(camera)
            if self.video is not None and (height % 2 or width % 2):
                raise DataError(
                    f"camera {name!r}: {width}x{height} cannot be a video, which "
                    "wants even sides; store images instead"
                )
        self._staged.begin()

    def features(self, description: EpisodeDescription) -> dict[str, Any]:
        """What `info.json` tells of each column."""
        features: dict[str, Any] = {
            name: column.to_feature() for name, column in number_columns(description).items()
        }
        for name, camera in description.cameras.items():
            height, width = self.images.stored_size(camera)
            feature: dict[str, Any] = {
                "dtype": "image" if self.video is None else "video",
                "shape": [height, width, 3],
                "names": ["height", "width", "channels"],
                ASSAY_KEY: {"name": name, "frame": camera.frame},
            }
            if self.video is not None:
                feature["info"] = self._video_info(height, width, description.rate_hz)
            features[camera_column(name)] = feature
        return {**features, **language_features(description), **bookkeeping_features()}

    def write_episode(self, index: int, episode: Episode) -> Receipt:
        description = episode.description
        with self._staged.writing(index) as folder:
            columns = read_columns(number_columns(description), episode, self.images)
            texts, text_index = _instructions(episode)
            colours = {}
            images: dict[str, list[bytes]] = {}
            for name in description.cameras:
                column = camera_column(name)
                size = self.images.stored_size(description.cameras[name])
                if self.video is None:
                    images[column] = files_to_store(
                        episode, name, range(description.num_steps), self.images
                    )
                else:
                    encode_video(
                        folder / f"{column}.mp4",
                        _frames(episode, name, size),
                        rate_hz=description.rate_hz or 0.0,
                        size=size,
                        settings=self.video,
                    )
                few = episode.frames(name, steps_of_frames(description.num_steps))
                colours[column] = summary_of_frames(few).to_fields()
            table = _table(columns, images, text_index, episode)
            pq.write_table(table, folder / "rows.parquet", compression="snappy")
            part = {"texts": texts, "colours": colours, "facts": facts_to_json(description)}
            (folder / "part.json").write_text(json.dumps(part))
            num_bytes = sum(file.stat().st_size for file in folder.iterdir())
        return Receipt(
            index=index,
            episode_id=description.episode_id,
            num_steps=description.num_steps,
            num_bytes=num_bytes,
        )

    def is_whole(self, receipt: Receipt) -> bool:
        return self._staged.has(receipt.index)

    def finish(self, receipts: Sequence[Receipt], origin: Origin) -> None:
        if self._staged.is_complete:
            return
        first = origin.first
        with self._staged.assembling() as folder:
            assemble(
                folder,
                [self._staged.folder(receipt.index) for receipt in receipts],
                features=self.features(first),
                rate_hz=first.rate_hz or 0.0,
                robot=first.provenance.get("robot"),
                max_data_bytes=int(self.max_data_mb * 2**20),
                max_video_bytes=int(self.max_video_mb * 2**20),
            )

    @property
    def _staged(self) -> StagedEpisodes:
        return StagedEpisodes(self.destination, "meta/info.json")

    def _video_info(self, height: int, width: int, rate_hz: float | None) -> dict[str, Any]:
        assert self.video is not None
        return {
            "video.height": height,
            "video.width": width,
            "video.codec": self.video.codec,
            "video.pix_fmt": "yuv420p",
            "video.is_depth_map": False,
            "video.fps": rate_hz,
            "video.channels": 3,
            "has_audio": False,
        }


def _frames(
    episode: Episode, camera: str, size: tuple[int, int]
) -> Iterator[npt.NDArray[np.uint8]]:
    description = episode.description
    described = description.cameras[camera]
    chunk = max(1, _CHUNK_BYTES // (3 * described.height * described.width))
    for start in range(0, description.num_steps, chunk):
        steps = range(start, min(start + chunk, description.num_steps))
        frames = episode.frames(camera, steps)
        expected = (len(steps), described.height, described.width, 3)
        if frames.shape != expected:
            raise DataError(
                f"camera {camera!r}: expected {expected}, got {frames.shape}",
                episode=description.episode_id,
            )
        yield from (resize_image(frame, size) for frame in frames)


def _instructions(episode: Episode) -> tuple[list[str], npt.NDArray[np.int64]]:
    """What the episode was told, and which of it at each step. LeRobot wants a text; "" is none."""
    description = episode.description
    phrasings = description.instructions.get("original") or task_phrasings(description)
    places = instruction_places(episode, len(phrasings))
    if places is not None:
        used, index = np.unique(places, return_inverse=True)
        return [phrasings[place] for place in used], index.reshape(-1).astype(np.int64)
    text = phrasings[0] if phrasings else description.task or ""
    return [text], np.zeros(description.num_steps, np.int64)


def _table(
    columns: Mapping[str, npt.NDArray[Any]],
    images: Mapping[str, list[bytes]],
    text_index: npt.NDArray[np.int64],
    episode: Episode,
) -> pa.Table:
    """The rows, but for their numbers in the data set, which are known at the end."""
    description = episode.description
    arrays: dict[str, pa.Array] = {}
    for name, numbers in columns.items():
        flat = pa.array(np.ascontiguousarray(numbers).reshape(-1))
        size = numbers.shape[1]
        # As LeRobot has it: a list of one number is that number.
        arrays[name] = flat if size == 1 else pa.FixedSizeListArray.from_arrays(flat, size)
    image_type = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    for name, files in images.items():
        rows = [
            {"bytes": data, "path": f"frame-{step:06d}.{_suffix(data)}"}
            for step, data in enumerate(files)
        ]
        arrays[name] = pa.array(rows, image_type)
    steps = np.arange(description.num_steps)
    assert description.rate_hz is not None
    times_s = (steps / description.rate_hz).astype(np.float32)
    arrays["timestamp"] = pa.array(times_s)
    arrays["frame_index"] = pa.array(steps)
    arrays["task_index"] = pa.array(text_index)
    if language_features(description):
        language = read_language(episode, times_s)
        arrays[LANGUAGE_COLUMN] = language_column(language, description.num_steps)
    return pa.table(arrays)


def _suffix(data: bytes) -> str:
    return "jpg" if data.startswith(b"\xff\xd8") else "png"
