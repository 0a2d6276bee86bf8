"""The demonstrations of a run: one data set or several, each with its share and held-out end."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from trainer.data.episode import Dataset
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.joined_dataset import JoinedDataset
from trainer.data.robot_recordings import RobotRecordings
from trainer.data.windows import split_episodes
from trainer.policy_configuration import PolicyConfig


@dataclass(frozen=True, kw_only=True)
class RobotSource:
    """training, held_out: places in the recordings. weight: of its windows, beside the others'."""

    name: str
    weight: float
    training: Sequence[int]
    held_out: Sequence[int]


def open_robot_data(config: PolicyConfig) -> Dataset:
    """All of the run's data sets as one. Raises DataError."""
    first = open_dataset(config.data)
    if not config.more_data:
        return first
    return JoinedDataset([first, *(open_dataset(path) for path in config.weight_of)])


def robot_sources(config: PolicyConfig, recordings: RobotRecordings) -> list[RobotSource]:
    """Of recordings of `open_robot_data`. Raises DataError where none of a data set's succeeded."""
    dataset = recordings.dataset
    weights, names = {config.data: 1.0, **config.weight_of}, source_names(config)
    sources: list[RobotSource] = []
    for number, (path, weight) in enumerate(weights.items()):
        own = range(len(dataset))
        if isinstance(dataset, JoinedDataset):
            own = dataset.episodes_of(number)
        places = [place for place, episode in enumerate(recordings.episodes) if episode in own]
        if not places:
            raise DataError(f"none of the {len(own)} episodes succeeded", where=path)
        training, held_out = split_episodes(len(places), config.validation_episodes)
        sources.append(
            RobotSource(
                name=names[number],
                weight=weight,
                training=[places[n] for n in training],
                held_out=[places[n] for n in held_out],
            )
        )
    return sources


def source_names(config: PolicyConfig) -> list[str]:
    """What each data set's numbers go by, that of `data` first."""
    return _names([config.data, *config.weight_of])


def _names(paths: Sequence[str]) -> list[str]:
    """The parts of paths that tell them apart: `A` and `B` of `runs/A/demos` and `runs/B/demos`.

    Numbers that are measured of each go by these.
    """
    all_parts = [PurePosixPath(path).parts or (path,) for path in paths]
    if len(paths) == 1:
        return [all_parts[0][-1]]
    length, longest = 1, max(map(len, all_parts))
    while len({parts[-length:] for parts in all_parts}) < len(paths) and length < longest:
        length += 1
    tails = [parts[-length:] for parts in all_parts]
    while min(map(len, tails)) > 1 and len({parts[-1] for parts in tails}) == 1:
        tails = [parts[:-1] for parts in tails]
    return ["/".join(parts) for parts in tails]
