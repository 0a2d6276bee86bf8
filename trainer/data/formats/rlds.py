"""RLDS data sets as TensorFlow Datasets stores them (Open X-Embodiment, BridgeData, LIBERO), read
without TensorFlow.

    dataset_info.json                        names, splits and how many episodes each shard holds
    features.json                            what a step holds
    NAME-SPLIT.tfrecord-00000-of-00008       a record an episode

in a folder, or in one named by the version, such as 1.0.0. RLDS does not tell the rate of the
control steps.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.formats.rlds_episode import RldsEpisode
from trainer.data.formats.rlds_features import StepFeatures, parse_features
from trainer.data.formats.tfrecord import Record, list_records
from trainer.data.locations import Location

_INFO, _FEATURES = "dataset_info.json", "features.json"
_VERSION = re.compile(r"\d+\.\d+\.\d+")


def recognises(location: Location) -> bool:
    return _folder(location) is not None


def open_dataset(location: Location) -> RldsDataset:
    """Raises DataError for a data set that is not whole, or that holds no episodes of steps."""
    return RldsDataset(location)


class RldsDataset(Dataset):
    """The episodes of all splits. An episode's id is its split and number, as in train_000000."""

    format_name = "rlds"

    def __init__(self, location: Location) -> None:
        self.where = str(location)
        folder = _folder(location)
        if folder is None:
            raise DataError(f"no {_INFO} and {_FEATURES} here", where=location)
        info = _read_json(folder / _INFO)
        self._features: StepFeatures = parse_features(_read_json(folder / _FEATURES), folder)
        self._episodes: list[tuple[str, Record]] = []
        try:
            for split in info["splits"]:
                self._add_split(folder, str(info["name"]), info, split)
        except (KeyError, TypeError, ValueError) as error:
            if isinstance(error, DataError):
                raise
            raise DataError(
                f"not what TensorFlow Datasets writes: {error!r}", where=folder
            ) from error
        if not self._episodes:
            raise DataError("the data set has no episodes", where=location)

    def __len__(self) -> int:
        return len(self._episodes)

    def episode(self, index: int) -> RldsEpisode:
        episode_id, record = self._episodes[index]
        return RldsEpisode(episode_id, record, self._features)

    def _add_split(
        self, folder: Location, name: str, info: Mapping[str, Any], split: Mapping[str, Any]
    ) -> None:
        file_format = info.get("fileFormat", "tfrecord")
        if file_format != "tfrecord":
            raise DataError(f"files of format {file_format!r}; tfrecord is read", where=folder)
        lengths = [int(length) for length in split["shardLengths"]]
        number = 0
        for shard, length in enumerate(lengths):
            file = folder.inside(
                f"{name}-{split['name']}.tfrecord-{shard:05d}-of-{len(lengths):05d}"
            )
            records = list_records(file)
            if len(records) != length:
                raise DataError(
                    f"{_INFO} tells of {length} episodes, the file holds {len(records)}", where=file
                )
            for record in records:
                self._episodes.append((f"{split['name']}_{number:06d}", record))
                number += 1


def _folder(location: Location) -> Location | None:
    """Where the data set's information is: here, or in the newest version's folder."""
    if not location.is_dir():
        return None
    if (location / _INFO).is_file() and (location / _FEATURES).is_file():
        return location
    versions = [child for child in location.children() if _VERSION.fullmatch(child.name)]
    versions.sort(key=lambda child: [int(part) for part in child.name.split(".")])
    for folder in reversed(versions):
        if (folder / _INFO).is_file() and (folder / _FEATURES).is_file():
            return folder
    return None


def _read_json(file: Location) -> Mapping[str, Any]:
    try:
        told = json.loads(file.read_text())
    except (ValueError, RecursionError) as error:
        raise DataError(f"no JSON: {error}", where=file) from error
    if not isinstance(told, dict):
        raise DataError(f"expected names and values, got {told!r}", where=file)
    return told
