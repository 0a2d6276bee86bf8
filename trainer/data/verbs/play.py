"""`trainer data play`."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro
from tqdm import tqdm

from policy_interface.usage import UsageError, parse_or_say_why
from trainer.data.episode import Dataset, Episode
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset

_DESCRIPTION = """Make a film of an episode: cameras, traces of the hands, curves with a cursor.

A camera that knows its intrinsics and its pose shows where each hand was (a line) and where it is
sent (dots). --to rerun writes a Rerun recording instead, for rerun-sdk's viewer.

example: trainer data play demos/PickAndPlaceBox 0 --output film.mp4
         trainer data play data/box episode_000003 --to rerun --output episode.rrd"""


@dataclass(frozen=True, kw_only=True)
class PlayArguments:
    """What to show.

    Attributes:
        source: Folder or file of episodes, in any known format.
        episode: Its number in the data set, from 0, or its id.
        output: The file to write; film.mp4 or recording.rrd unless given.
        to: What to write.
        fields: Fields to plot beneath the cameras, separated by commas; `trainer data inspect`
            lists them. The motions of each part, unless given.
        width: Of the film, in pixels.
        speed: 2 plays twice as fast as it happened.
        source_format: The format, where it is not recognised.
    """

    source: tyro.conf.Positional[str]
    episode: tyro.conf.Positional[str]
    output: Annotated[Path | None, tyro.conf.arg(metavar="FILE")] = None
    to: Literal["mp4", "rerun"] = "mp4"
    fields: Annotated[str | None, tyro.conf.arg(metavar="FIELD[,FIELD]")] = None
    width: int = 1280
    speed: float = 1.0
    source_format: Annotated[str | None, tyro.conf.arg(name="from", metavar="FORMAT")] = None


def main(arguments: Sequence[str]) -> int:
    """Raises DataError for data that cannot be read, UsageError for bad usage."""
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            PlayArguments, args=arguments, prog="trainer data play", description=_DESCRIPTION
        )
    )
    ending = {"mp4": ".mp4", "rerun": ".rrd"}[parsed.to]
    output = parsed.output or Path({"mp4": "film.mp4", "rerun": "recording.rrd"}[parsed.to])
    if output.suffix.lower() != ending:
        raise UsageError(f"play: --output: --to {parsed.to} writes {ending} files, got {output}")
    if not 320 <= parsed.width <= 7680:
        raise UsageError(f"play: --width: expected 320 to 7680 pixels, got {parsed.width}")
    if not 0.01 <= parsed.speed <= 100:
        raise UsageError(f"play: --speed: expected 0.01 to 100, got {parsed.speed:g}")
    episode = find_episode(open_dataset(parsed.source, parsed.source_format), parsed.episode)
    num_steps = episode.description.num_steps

    def progress(items: Iterator[Any]) -> tqdm[Any]:
        return tqdm(
            items,
            desc="drawing",
            unit="step",
            total=num_steps,
            leave=False,
            file=sys.stderr,
            disable=None,
        )

    fields = None if parsed.fields is None else parsed.fields.split(",")
    if parsed.to == "mp4":
        from trainer.data.showing.film import Film, write_film

        film = Film(episode, fields=fields, width=parsed.width)
        write_film(film, output, speed=parsed.speed, progress=progress)
    else:
        from trainer.data.showing.rerun_recording import write_recording

        write_recording(episode, output, fields=fields, progress=progress)
    print(output)
    return 0


def find_episode(dataset: Dataset, asked: str) -> Episode:
    """By number or by id. Raises DataError that says what there is."""
    if asked.removeprefix("-").isdecimal():
        if 0 <= int(asked) < len(dataset):
            return dataset.episode(int(asked))
        raise DataError(
            f"expected an episode from 0 to {len(dataset) - 1}, got {asked}", where=dataset.where
        )
    ids = []
    for episode in dataset:
        if episode.description.episode_id == asked:
            return episode
        ids.append(episode.description.episode_id)
    close = difflib.get_close_matches(asked, ids, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    raise DataError(
        f"no episode {asked!r}{hint}; there are {len(ids)}, {ids[0]!r} to {ids[-1]!r}"
        if ids
        else "holds no episodes",
        where=dataset.where,
    )
