"""Which windows of VLA Foundry's shards belong to one episode.

Windows of all episodes lie shuffled, and an episode is known by an id such as `episode_0`, which
another recording session used again. Where two windows of one id have the same anchor and other
numbers, they are of different episodes; then a window is given to the episode with which it agrees
in every step that both hold.

Axes: W step of a window.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.formats.foundry_index import FoundryWindow

# Of the low-dimensional arrays, those that are not of the episode's steps alone.
_NOT_OF_STEPS = re.compile(r".*_relative|(past|future)_mask|(original|rescaled)_intrinsics\..+")


def is_field(name: str) -> bool:
    """Whether an array is a field of the episode: not a mask, not relative to an anchor, not a
    camera's."""
    return not _NOT_OF_STEPS.fullmatch(name) and not name.startswith("extrinsics.")


def group_windows(windows: Iterable[FoundryWindow]) -> dict[str, list[FoundryWindow]]:
    """By episode id, in the order of the ids, each by anchor and without repetitions."""
    found: dict[tuple[str, Any], list[FoundryWindow]] = {}
    for window in windows:
        key = (window.episode_id, window.metadata.get("original_episode_length"))
        found.setdefault(key, []).append(window)
    episodes: dict[str, list[FoundryWindow]] = {}
    for episode_id, _ in sorted(found, key=lambda key: (_natural(key[0]), str(key[1]))):
        for episode in _split(found[episode_id, _]):
            name, number = episode_id, 2
            while name in episodes:
                name, number = f"{episode_id}~{number}", number + 1
            episodes[name] = episode
    return episodes


def lost_ends(episodes: Mapping[str, Sequence[FoundryWindow]]) -> Mapping[str, DataError]:
    """Of a data set some of whose windows are lost: the episodes that may have lost steps at their
    ends, where no gap shows it. Foundry cuts the ends of all episodes alike, so the one that is cut
    least tells how much.
    """
    ends = {name: _cut_ends(windows) for name, windows in episodes.items()}
    starts = min(start for start, _ in ends.values())
    stops = min((stop for _, stop in ends.values() if stop is not None), default=0)
    lost: dict[str, DataError] = {}
    for name, (start, stop) in ends.items():
        message = ""
        if stop is None:
            message = "a shard is not whole, and no metadata tell how long it was"
        elif start > starts:
            message = f"its steps begin {start - starts} later than another episode's"
        elif stop > stops:
            message = f"its steps end {stop - stops} earlier than another episode's"
        if message:
            told = message if stop is None else f"{message}, and a shard is not whole"
            lost[name] = DataError(told, where=episodes[name][0].shard, episode=name)
    return lost


def _cut_ends(windows: Sequence[FoundryWindow]) -> tuple[int, int | None]:
    """How many steps at an episode's start and end have no frame; None where nobody tells."""
    offsets = {offset for window in windows for _, offset in window.images} or {0}
    start = max(0, windows[0].anchor + min(offsets))
    length = windows[0].metadata.get("original_episode_length")
    if length is None:
        return start, None
    return start, max(0, int(length) - 1 - windows[-1].anchor - max(offsets))


def _split(windows: Sequence[FoundryWindow]) -> list[list[FoundryWindow]]:
    ordered = sorted(windows, key=lambda window: (window.anchor, window.key))
    if len({window.anchor for window in ordered}) == len(ordered):
        return [ordered]
    episodes: list[list[FoundryWindow]] = []
    latest: list[dict[int, npt.NDArray[Any]]] = []
    for window in ordered:
        rows = _rows(window)
        for episode, last in zip(episodes, latest, strict=True):
            if not _agree(last, rows):
                continue
            if episode[-1].anchor != window.anchor:
                episode.append(window)
                last.clear()
                last.update(rows)
            break
        else:
            episodes.append([window])
            latest.append(rows)
    return episodes


def _agree(first: dict[int, npt.NDArray[Any]], second: dict[int, npt.NDArray[Any]]) -> bool:
    both = first.keys() & second.keys()
    return bool(both) and all(np.array_equal(first[s], second[s], equal_nan=True) for s in both)


def _rows(window: FoundryWindow) -> dict[int, npt.NDArray[Any]]:
    """All numbers of each real step, by control step."""
    arrays = window.lowdim()
    names = [
        name
        for name, header in sorted(arrays.headers().items())
        if is_field(name) and header.dtype.kind in "biuf" and header.shape
    ]
    steps = real_steps(window)
    first = window.anchor - window.past
    columns = [arrays.read(name).astype(np.float64) for name in names]
    flat_W = np.concatenate([column.reshape(len(column), -1) for column in columns], axis=1)
    return {step: flat_W[step - first] for step in steps}


def real_steps(window: FoundryWindow) -> range:
    """The control steps that a window holds, without padding."""
    arrays = window.lowdim()
    real = arrays.read("past_mask").astype(bool) | arrays.read("future_mask").astype(bool)
    places = np.flatnonzero(real)
    first = window.anchor - window.past
    if not len(places):
        return range(window.anchor, window.anchor)
    return range(first + int(places[0]), first + int(places[-1]) + 1)


def _natural(text: str) -> list[tuple[int, str]]:
    """episode_2 before episode_10."""
    return [(int(part), "") if part.isdigit() else (-1, part) for part in re.split(r"(\d+)", text)]
