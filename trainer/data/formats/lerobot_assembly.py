"""Puts staged episodes together to a LeRobot data set of version 3."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from trainer.data.errors import DataError
from trainer.data.formats.lerobot_language import LANGUAGE_DTYPE
from trainer.data.formats.lerobot_statistics import (
    merged_statistics,
    steps_of_frames,
    summary_of_numbers,
    to_lerobot,
)
from trainer.data.formats.lerobot_v3 import FACTS_COLUMN
from trainer.data.formats.parquet_rows import to_numpy
from trainer.data.statistics.summary import Summary
from trainer.data.video_writing import join_videos

FILES_PER_CHUNK = 1000
_DATA_PATH = "data/chunk-{chunk_index:03d}/file-{file_index:03d}.parquet"
_VIDEO_PATH = "videos/{video_key}/chunk-{chunk_index:03d}/file-{file_index:03d}.mp4"
_EPISODES_PATH = "meta/episodes/chunk-000/file-000.parquet"
# Summaries are merged this many at a time: each holds hundreds of numbers a column.
_MERGED_AT_ONCE = 64
_ROWS_AT_ONCE = 256


def assemble(
    folder: Path,
    parts: Sequence[Path],
    *,
    features: Mapping[str, Mapping[str, Any]],
    rate_hz: float,
    robot: str | None,
    max_data_bytes: int,
    max_video_bytes: int,
) -> None:
    """folder: empty. parts: one an episode, in the data set's order."""
    if not parts:
        raise DataError("the data set has no episodes", where=folder)
    lengths = [pq.read_metadata(part / "rows.parquet").num_rows for part in parts]
    videos: list[dict[str, Any]] = [{} for _ in parts]
    for column, feature in features.items():
        if feature["dtype"] == "video":
            _write_videos(folder, parts, lengths, videos, column, max_video_bytes)
    tasks: dict[str, int] = {}
    statistics = _Statistics(features)
    with _EpisodesTable(folder / _EPISODES_PATH) as episodes:
        _write_data(folder, parts, videos, episodes, tasks, statistics, features, max_data_bytes)
    _write_tasks(folder / "meta" / "tasks.parquet", tasks)
    (folder / "meta" / "stats.json").write_text(json.dumps(statistics.merged()))
    info = {
        "codebase_version": "v3.0",
        "robot_type": robot,
        "total_episodes": len(parts),
        "total_frames": sum(lengths),
        "total_tasks": len(tasks),
        "chunks_size": FILES_PER_CHUNK,
        "data_files_size_in_mb": _whole_mb(max_data_bytes),
        "video_files_size_in_mb": _whole_mb(max_video_bytes),
        "fps": int(rate_hz) if rate_hz == int(rate_hz) else rate_hz,
        "splits": {"train": f"0:{len(parts)}"},
        "data_path": _DATA_PATH,
        "video_path": _VIDEO_PATH
        if any(feature["dtype"] == "video" for feature in features.values())
        else None,
        "features": features,
    }
    (folder / "meta" / "info.json").write_text(json.dumps(info, indent=4))


class _EpisodesTable:
    """The table of episodes, written a few hundred rows at a time: each holds all statistics."""

    def __init__(self, path: Path) -> None:
        self._path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        self._waiting: list[Mapping[str, Any]] = []
        self._writer: pq.ParquetWriter | None = None

    def __enter__(self) -> _EpisodesTable:
        return self

    def __exit__(self, *error: object) -> None:
        self._flush()
        if self._writer is not None:
            self._writer.close()

    def add(self, row: Mapping[str, Any]) -> None:
        self._waiting.append(row)
        if len(self._waiting) == _ROWS_AT_ONCE:
            self._flush()

    def _flush(self) -> None:
        if not self._waiting:
            return
        schema = None if self._writer is None else self._writer.schema
        table = pa.Table.from_pylist([dict(row) for row in self._waiting], schema=schema)
        if self._writer is None:
            self._writer = pq.ParquetWriter(self._path, table.schema, compression="snappy")
        self._writer.write_table(table)
        self._waiting = []


class _Statistics:
    """Of every column, episode after episode."""

    def __init__(self, features: Mapping[str, Mapping[str, Any]]) -> None:
        dtypes = {name: feature["dtype"] for name, feature in features.items()}
        self._dtypes = {name: dtype for name, dtype in dtypes.items() if dtype != LANGUAGE_DTYPE}
        self._parts: dict[str, list[Summary]] = {}
        self._num_frames: dict[str, int] = {}

    def add(self, rows: pa.Table, colours: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """Of one episode, as columns of the table of episodes."""
        told: dict[str, Any] = {}
        for name, dtype in self._dtypes.items():
            if name in colours:
                summary = Summary.from_fields(colours[name])
                num_frames = len(steps_of_frames(len(rows)))
                self._num_frames[name] = self._num_frames.get(name, 0) + num_frames
                found = to_lerobot(summary, num_frames=num_frames)
            else:
                summary = summary_of_numbers(to_numpy(rows[name]).reshape(len(rows), -1))
                found = to_lerobot(summary, dtype=dtype)
            told |= {f"stats/{name}/{statistic}": value for statistic, value in found.items()}
            held = self._parts.setdefault(name, [])
            held.append(summary)
            if len(held) == _MERGED_AT_ONCE:
                self._parts[name] = [Summary.merged(held)]
        return told

    def merged(self) -> dict[str, Any]:
        return merged_statistics(self._parts, self._dtypes, self._num_frames)


def _write_data(
    folder: Path,
    parts: Sequence[Path],
    videos: Sequence[Mapping[str, Any]],
    episodes: _EpisodesTable,
    tasks: dict[str, int],
    statistics: _Statistics,
    features: Mapping[str, Mapping[str, Any]],
    max_bytes: int,
) -> None:
    """The rows of all episodes, a row group an episode, and the table of episodes."""
    order = [name for name, feature in features.items() if feature["dtype"] != "video"]
    first = 0
    for file_number, places in enumerate(_files(parts, "rows.parquet", max_bytes)):
        path, where = _place(folder, _DATA_PATH, file_number)
        writer: pq.ParquetWriter | None = None
        for place in places:
            part = json.loads((parts[place] / "part.json").read_text())
            rows = pq.read_table(parts[place] / "rows.parquet")
            numbers = [tasks.setdefault(text, len(tasks)) for text in part["texts"]]
            task_index = np.array(numbers, np.int64)[to_numpy(rows["task_index"])]
            rows = _with_numbers(rows, place, first, task_index).select(order)
            if writer is None:
                writer = pq.ParquetWriter(path, rows.schema, compression="snappy")
            elif rows.schema != writer.schema:
                raise DataError(
                    f"its columns differ from those of the episodes before it: {rows.schema}",
                    episode=part["facts"]["episode_id"],
                )
            writer.write_table(rows)
            episodes.add(
                {
                    "episode_index": place,
                    "tasks": part["texts"],
                    "length": len(rows),
                    "data/chunk_index": where["chunk_index"],
                    "data/file_index": where["file_index"],
                    "dataset_from_index": first,
                    "dataset_to_index": first + len(rows),
                    **videos[place],
                    FACTS_COLUMN: json.dumps(part["facts"]),
                    **statistics.add(rows, part["colours"]),
                    "meta/episodes/chunk_index": 0,
                    "meta/episodes/file_index": 0,
                }
            )
            first += len(rows)
        if writer is not None:
            writer.close()


def _with_numbers(rows: pa.Table, episode: int, first: int, task_index: Any) -> pa.Table:
    place = rows.column_names.index("task_index")
    rows = rows.set_column(place, "task_index", pa.array(task_index))
    rows = rows.append_column("episode_index", pa.array(np.full(len(rows), episode)))
    return rows.append_column("index", pa.array(np.arange(first, first + len(rows))))


def _write_videos(
    folder: Path,
    parts: Sequence[Path],
    lengths: Sequence[int],
    videos: list[dict[str, Any]],
    column: str,
    max_bytes: int,
) -> None:
    """The videos of a camera, several episodes a file; notes in `videos` where each one is."""
    name = f"{column}.mp4"
    for file_number, places in enumerate(_files(parts, name, max_bytes)):
        path, where = _place(folder, _VIDEO_PATH, file_number, video_key=column)
        spans = join_videos(
            path, [parts[place] / name for place in places], [lengths[place] for place in places]
        )
        for place, (begin_s, end_s) in zip(places, spans, strict=True):
            videos[place] |= {
                f"videos/{column}/chunk_index": where["chunk_index"],
                f"videos/{column}/file_index": where["file_index"],
                f"videos/{column}/from_timestamp": begin_s,
                f"videos/{column}/to_timestamp": end_s,
            }


def _files(parts: Sequence[Path], name: str, max_bytes: int) -> Iterator[list[int]]:
    """The episodes of each file, so many that it stays below the limit, and one at least."""
    places: list[int] = []
    held = 0
    for place, part in enumerate(parts):
        size = (part / name).stat().st_size
        if places and held + size > max_bytes:
            yield places
            places, held = [], 0
        places.append(place)
        held += size
    yield places


def _place(folder: Path, template: str, number: int, **words: str) -> tuple[Path, dict[str, int]]:
    chunk, file = divmod(number, FILES_PER_CHUNK)
    where = {"chunk_index": chunk, "file_index": file}
    path = folder / template.format(**where, **words)
    path.parent.mkdir(parents=True, exist_ok=True)
    return path, where


def _write_tasks(path: Path, tasks: Mapping[str, int]) -> None:
    table = pa.table(
        {"task_index": pa.array(list(tasks.values()), pa.int64()), "task": list(tasks)}
    )
    # pandas, by which LeRobot reads this, takes the index from here.
    told = {
        "index_columns": ["task"],
        "column_indexes": [
            {
                "name": None,
                "field_name": None,
                "pandas_type": "unicode",
                "numpy_type": "object",
                "metadata": {"encoding": "UTF-8"},
            }
        ],
        "columns": [
            _pandas_column("task_index", "int64", "int64"),
            _pandas_column("task", "unicode", "object"),
        ],
        "creator": {"library": "pyarrow", "version": pa.__version__},
        "pandas_version": "2.2.0",
    }
    table = table.replace_schema_metadata({b"pandas": json.dumps(told).encode()})
    pq.write_table(table, path)


def _pandas_column(name: str, pandas_type: str, numpy_type: str) -> dict[str, Any]:
    return {
        "name": name,
        "field_name": name,
        "pandas_type": pandas_type,
        "numpy_type": numpy_type,
        "metadata": None,
    }


def _whole_mb(num_bytes: int) -> int:
    return max(1, num_bytes >> 20)
