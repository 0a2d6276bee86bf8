"""LeRobot data sets of version 2: a parquet file an episode, and a video an episode and camera.

meta/info.json
meta/tasks.jsonl, meta/episodes.jsonl, meta/episodes_stats.jsonl (2.1 alone)
data/chunk-000/episode_000000.parquet
videos/chunk-000/CAMERA/episode_000000.mp4
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from typing import Any

from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.formats.lerobot_episode import (
    EpisodePlace,
    LeRobotEpisode,
    LeRobotTables,
    VideoSpan,
)
from trainer.data.formats.lerobot_images import with_image_encodings
from trainer.data.formats.lerobot_info import (
    LeRobotInfo,
    codebase_version,
    read_info,
    reading_tables,
)
from trainer.data.locations import Location


def recognises(location: Location) -> bool:
    version = codebase_version(location)
    return version is not None and version.startswith("v2.")


def open_dataset(location: Location) -> LeRobotV2Dataset:
    """Raises DataError for a data set that is not whole, empty or of another version."""
    return LeRobotV2Dataset(location)


class LeRobotV2Dataset(Dataset):
    """An episode's id is its number in the data set, as in episode_000000."""

    format_name = "lerobot-v2"

    def __init__(self, location: Location) -> None:
        self.where = str(location)
        info = read_info(location, known_versions=("v2.0", "v2.1"))
        with reading_tables(location):
            self._read(location, info)

    def _read(self, location: Location, info: LeRobotInfo) -> None:
        rows = _read_lines(location / "meta" / "episodes.jsonl", ("episode_index", "length"))
        rows.sort(key=lambda row: row["episode_index"])
        if not rows:
            raise DataError("the data set has no episodes", where=location)
        if len(rows) != info.total_episodes:
            raise DataError(
                f"info.json tells of {info.total_episodes} episodes, episodes.jsonl has "
                f"{len(rows)}",
                where=location,
            )
        successes = _successes(location)
        self._places = [
            _place(location, info, row, successes.get(row["episode_index"])) for row in rows
        ]
        tasks = _read_lines(location / "meta" / "tasks.jsonl", ("task_index", "task"))
        opening = uuid.uuid4().hex
        self._tables = LeRobotTables(
            opening=opening,
            info=with_image_encodings(info, self._places[0].data, opening),
            tasks={row["task_index"]: row["task"] for row in tasks},
            changes_task=any(len(place.tasks) > 1 for place in self._places),
        )

    def __len__(self) -> int:
        return len(self._places)

    def episode(self, index: int) -> LeRobotEpisode:
        return LeRobotEpisode(self._tables, self._places[index])


def _read_lines(file: Location, keys: tuple[str, ...]) -> list[dict[str, Any]]:
    try:
        lines = file.read_text().splitlines()
    except FileNotFoundError as error:
        raise DataError("no such file; version 2 has one", where=file) from error
    except UnicodeDecodeError as error:
        raise DataError(f"not text: {error}", where=file) from error
    rows = []
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            missing = [key for key in keys if key not in row]
        except (ValueError, TypeError) as error:
            raise DataError(f"line {number} is not JSON: {error}", where=file) from error
        if missing:
            raise DataError(f"line {number} has no {', '.join(missing)}", where=file)
        rows.append(row)
    return rows


def _successes(location: Location) -> Mapping[int, bool]:
    """By episode, where the statistics of version 2.1 tell of a feature next.success."""
    file = location / "meta" / "episodes_stats.jsonl"
    if not file.is_file():
        return {}
    found = {}
    for row in _read_lines(file, ("episode_index", "stats")):
        most = row["stats"].get("next.success", {}).get("max")
        if most:
            found[row["episode_index"]] = bool(most[0])
    return found


def _place(
    location: Location, info: LeRobotInfo, row: Mapping[str, Any], success: bool | None
) -> EpisodePlace:
    index = int(row["episode_index"])
    words = {"episode_chunk": index // info.chunks_size, "episode_index": index}
    videos = {}
    for name, feature in info.cameras.items():
        if feature.is_video:
            if info.video_path is None:
                raise DataError("info.json names no video_path", where=location)
            video = info.file(info.video_path, **words, video_key=feature.column)
            videos[name] = VideoSpan(video=video, begin_s=0.0)
    return EpisodePlace(
        index=index,
        num_steps=int(row["length"]),
        data=info.file(info.data_path, **words),
        videos=videos,
        tasks=tuple(row.get("tasks") or ()),
        success=success,
    )
