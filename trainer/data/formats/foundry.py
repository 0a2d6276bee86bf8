"""VLA Foundry's tar shards of robot data, their windows put together to episodes again.

    manifest.jsonl                 {"shard": "shard_000000", "num_sequences": 128} a line
    shard_000000.tar, ...          windows, shuffled over all shards
    stats.json, ...                not read

in a folder, in its `shards`, or, a tar an episode, in its `episodes`, which are read where there
are both: their windows need not be sorted out. To open a data set is to look through its shards.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.formats.foundry_episode import FoundryEpisode
from trainer.data.formats.foundry_episodes import group_windows
from trainer.data.formats.foundry_index import FoundryWindow, read_shard
from trainer.data.locations import Location

_MANIFEST = "manifest.jsonl"


def recognises(location: Location) -> bool:
    folder = _folder(location)
    if folder is None:
        return False
    try:
        first = json.loads((folder / _MANIFEST).read_text().partition("\n")[0])
    except (ValueError, RecursionError, OSError):
        return False
    return isinstance(first, dict) and {"shard", "num_sequences"} <= first.keys()


def open_dataset(location: Location) -> FoundryDataset:
    """Raises DataError for a manifest or shard that is not whole, and for an empty data set."""
    return FoundryDataset(location)


class FoundryDataset(Dataset):
    """An episode's id is the one in its windows; `~2` follows where another one had it too."""

    format_name = "foundry"

    def __init__(self, location: Location) -> None:
        self.where = str(location)
        folder = _folder(location)
        if folder is None:
            raise DataError(f"no {_MANIFEST} here, nor in shards or episodes", where=location)
        shards = _read_manifest(folder / _MANIFEST)
        windows = [
            read_shard(folder.inside(f"{name}.tar"), count) for name, count in shards.items()
        ]
        self._episodes: list[tuple[str, list[FoundryWindow]]]
        if folder.name == "episodes":
            self._episodes = _one_a_shard(list(shards), windows)
        else:
            grouped = group_windows(window for shard in windows for window in shard)
            self._episodes = list(grouped.items())
        if not self._episodes:
            raise DataError("the shards hold no window", where=folder)

    def __len__(self) -> int:
        return len(self._episodes)

    def episode(self, index: int) -> FoundryEpisode:
        episode_id, windows = self._episodes[index]
        return FoundryEpisode(episode_id, windows)


def _folder(location: Location) -> Location | None:
    """Where the manifest is."""
    if not location.is_dir():
        return None
    for folder in (location, location / "episodes", location / "shards"):
        if (folder / _MANIFEST).is_file():
            return folder
    return None


def _read_manifest(file: Location) -> Mapping[str, int]:
    """How many windows each shard holds, by its name without the extension."""
    shards: dict[str, int] = {}
    for number, line in enumerate(file.read_text().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            told: Any = json.loads(line)
            shards[str(told["shard"])] = int(told["num_sequences"])
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            raise DataError(
                f"line {number}: expected a shard and its num_sequences, got {line!r}", where=file
            ) from error
    if not shards:
        raise DataError("names no shard", where=file)
    return shards


def _one_a_shard(
    names: Sequence[str], windows: Sequence[Sequence[FoundryWindow]]
) -> list[tuple[str, list[FoundryWindow]]]:
    return [
        (name.removeprefix("episode_"), sorted(shard, key=lambda window: window.anchor))
        for name, shard in zip(names, windows, strict=True)
        if shard
    ]
