"""VLA Foundry's tar shards of robot data, their windows put together to episodes again.

    manifest.jsonl                 {"shard": "shard_000000", "num_sequences": 128} a line
    shard_000000.tar, ...          windows, shuffled over all shards
    stats.json, ...                not read

in a folder, in its `shards`, or, a tar an episode, in its `episodes`, which are read where there
are both: their windows need not be sorted out. To open a data set is to look through its shards.

What a shard that is not whole takes along is told episode by episode, so that the others can be
read. Shuffled windows are of all episodes, and what was lost of one is seen by its gaps and by its
ends; but an episode whose every window was in that shard leaves no trace, so the shard itself is
counted as one that cannot be read.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.formats.foundry_episode import FoundryEpisode
from trainer.data.formats.foundry_episodes import group_windows, lost_ends
from trainer.data.formats.foundry_index import FoundryWindow, ShardContents, read_shard
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
    """Raises DataError for a manifest that is not whole, and where no window can be read."""
    return FoundryDataset(location)


class FoundryDataset(Dataset):
    """An episode's id is the one in its windows; `~2` follows where another one had it too.

    Where shards are not whole, they come first, as episodes that cannot be read.
    """

    format_name = "foundry"

    def __init__(self, location: Location) -> None:
        self.where = str(location)
        folder = _folder(location)
        if folder is None:
            raise DataError(f"no {_MANIFEST} here, nor in shards or episodes", where=location)
        shards = {
            name: read_shard(folder.inside(f"{name}.tar"), count)
            for name, count in _read_manifest(folder / _MANIFEST).items()
        }
        problems = [shard.problem for shard in shards.values() if shard.problem]
        if not any(shard.windows for shard in shards.values()):
            if problems:
                raise problems[0]
            raise DataError("the shards hold no window", where=folder)
        self._episodes: list[_FoundEpisode]
        if folder.name == "episodes":
            self._episodes = _one_a_shard(shards)
        else:
            windows = (window for shard in shards.values() for window in shard.windows)
            grouped = group_windows(windows)
            lost = lost_ends(grouped) if problems else {}
            self._episodes = [_FoundEpisode(problem=problem) for problem in problems]
            self._episodes += [
                _FoundEpisode(episode_id=name, windows=windows, problem=lost.get(name))
                for name, windows in grouped.items()
            ]

    def __len__(self) -> int:
        return len(self._episodes)

    def episode(self, index: int) -> FoundryEpisode:
        found = self._episodes[index]
        if found.problem is not None:
            raise found.problem
        return FoundryEpisode(found.episode_id, found.windows)


@dataclass(frozen=True, kw_only=True)
class _FoundEpisode:
    """problem: why it cannot be read; then nothing else counts."""

    episode_id: str = ""
    windows: Sequence[FoundryWindow] = ()
    problem: DataError | None = None


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


def _one_a_shard(shards: Mapping[str, ShardContents]) -> list[_FoundEpisode]:
    return [
        _FoundEpisode(
            episode_id=name.removeprefix("episode_"),
            windows=sorted(shard.windows, key=lambda window: window.anchor),
            problem=shard.problem,
        )
        for name, shard in shards.items()
        if shard.windows or shard.problem
    ]
