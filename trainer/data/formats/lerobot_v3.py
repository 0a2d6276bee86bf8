"""LeRobot data sets of version 3: many episodes a parquet file and a video.

meta/info.json
meta/tasks.parquet
meta/episodes/chunk-000/file-000.parquet         a row an episode: length, tasks, files, times
data/chunk-000/file-000.parquet                  a row a step, of several episodes
videos/CAMERA/chunk-000/file-000.mp4             of several episodes
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

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

FACTS_COLUMN = "assay/facts"
_SUCCESS_COLUMN = "stats/next.success/max"


def recognises(location: Location) -> bool:
    """Any LeRobot data set but those of version 2, so that an unknown version is called so."""
    version = codebase_version(location)
    return version is not None and not version.startswith("v2.")


def open_dataset(location: Location) -> LeRobotV3Dataset:
    """Raises DataError for a data set that is not whole, empty or of another version."""
    return LeRobotV3Dataset(location)


class LeRobotV3Dataset(Dataset):
    """An episode's id is its number in the data set, as in episode_000000."""

    format_name = "lerobot-v3"

    def __init__(self, location: Location) -> None:
        self.where = str(location)
        info = read_info(location, known_versions=("v3.0",))
        if info.total_episodes == 0:
            raise DataError("the data set has no episodes", where=location)
        with reading_tables(location):
            self._read(location, info)

    def _read(self, location: Location, info: LeRobotInfo) -> None:
        rows = _episode_rows(location, info)
        self._places = [_place(location, info, row) for row in rows]
        opening = uuid.uuid4().hex
        self._tables = LeRobotTables(
            opening=opening,
            info=with_image_encodings(info, self._places[0].data, opening),
            tasks=_tasks(location),
            changes_task=any(len(place.tasks) > 1 for place in self._places),
        )

    def __len__(self) -> int:
        return len(self._places)

    def episode(self, index: int) -> LeRobotEpisode:
        return LeRobotEpisode(self._tables, self._places[index])


def _tasks(location: Location) -> dict[int, str]:
    table = _read_table(location / "meta" / "tasks.parquet")
    texts = [name for name in table.column_names if name != "task_index"]
    if "task_index" not in table.column_names or len(texts) != 1:
        raise DataError(
            f"expected a column task_index and one of texts, got {table.column_names}",
            where=location / "meta" / "tasks.parquet",
        )
    return dict(zip(table["task_index"].to_pylist(), table[texts[0]].to_pylist(), strict=True))


def _episode_rows(location: Location, info: LeRobotInfo) -> list[dict[str, Any]]:
    """Of every file of the table of episodes, without the statistics that it holds too."""
    folder = location / "meta" / "episodes"
    if not folder.is_dir():
        raise DataError("no such folder; it holds the table of episodes", where=folder)
    needed = ["episode_index", "length", "tasks", "data/chunk_index", "data/file_index"]
    for feature in info.cameras.values():
        if feature.is_video:
            needed += [f"videos/{feature.column}/{name}" for name in _SPAN_COLUMNS]
    rows: list[dict[str, Any]] = []
    for file in folder.find():
        if file.name.endswith(".parquet"):
            rows += _read_table(file, needed, (_SUCCESS_COLUMN, FACTS_COLUMN)).to_pylist()
    rows.sort(key=lambda row: row["episode_index"])
    if len(rows) != info.total_episodes:
        raise DataError(
            f"info.json tells of {info.total_episodes} episodes, the table of episodes has "
            f"{len(rows)}",
            where=folder,
        )
    return rows


_SPAN_COLUMNS = ("chunk_index", "file_index", "from_timestamp", "to_timestamp")


def _read_table(
    file: Location, needed: Sequence[str] | None = None, optional: Sequence[str] = ()
) -> pa.Table:
    try:
        with file.open() as stream:
            parquet = pq.ParquetFile(stream)
            if needed is None:
                return parquet.read()
            there = parquet.schema_arrow.names
            for name in needed:
                if name not in there:
                    raise DataError(f"no column {name!r}", where=file)
            return parquet.read(columns=[*needed, *(name for name in optional if name in there)])
    except FileNotFoundError as error:
        raise DataError("no such file", where=file) from error
    except (pa.ArrowException, OSError) as error:
        raise DataError(f"cannot be read as parquet: {error}", where=file) from error


def _place(location: Location, info: LeRobotInfo, row: dict[str, Any]) -> EpisodePlace:
    videos = {}
    for name, feature in info.cameras.items():
        if not feature.is_video:
            continue
        chunk, file, begin_s, end_s = (
            row[f"videos/{feature.column}/{column}"] for column in _SPAN_COLUMNS
        )
        if info.video_path is None or None in (chunk, file, begin_s, end_s):
            raise DataError(
                f"no video of camera {name!r} is noted",
                where=location,
                episode=f"episode_{row['episode_index']:06d}",
            )
        video = info.file(
            info.video_path, video_key=feature.column, chunk_index=chunk, file_index=file
        )
        videos[name] = VideoSpan(video=video, begin_s=begin_s, end_s=end_s)
    data = info.file(
        info.data_path, chunk_index=row["data/chunk_index"], file_index=row["data/file_index"]
    )
    success = row.get(_SUCCESS_COLUMN)
    facts = row.get(FACTS_COLUMN)
    return EpisodePlace(
        index=row["episode_index"],
        num_steps=row["length"],
        data=data,
        videos=videos,
        tasks=tuple(row["tasks"] or ()),
        success=bool(success[0]) if success else None,
        facts=json.loads(facts) if facts else None,
    )
