"""Cameras whose streams are swapped in some episodes."""

from __future__ import annotations

import itertools
from typing import ClassVar

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.doctor.check import Check
from trainer.data.doctor.examined import ExaminedEpisode
from trainer.data.doctor.finding import Finding, Severity

_SIDE = 12
# Swapped, the two must fit that much better than as they are named.
_BETTER = 0.5
# One of the two must change that much less within an episode than the two differ: what two cameras
# on moving hands show depends on which hand works.
_STEADY = 0.5
_FEWEST_EPISODES = 3


class SwappedCameras(Check):
    """Compares each episode's mean pictures with the middle ones of all episodes of its task.

    Finds swaps in fewer than half of a task's episodes (of two halves nobody can say which is
    right), and between cameras of which at least one stands still.
    """

    name: ClassVar[str] = "swapped-cameras"

    def __init__(self) -> None:
        self._pictures: dict[str | None, dict[str, dict[str, FloatArray]]] = {}
        self._changes: dict[tuple[str | None, str], float] = {}

    def look(self, episode: ExaminedEpisode) -> None:
        of_task = self._pictures.setdefault(episode.description.task, {})
        pictures: dict[str, FloatArray] = {}
        for camera, sampled in episode.frames.items():
            thumbnails = np.stack([_thumbnail(frame) for frame in sampled.frames])
            pictures[camera] = thumbnails.mean(axis=0)
            change = float(np.abs(thumbnails - pictures[camera]).mean())
            key = episode.description.task, camera
            self._changes[key] = max(self._changes.get(key, 0.0), change)
        of_task[episode.description.episode_id] = pictures

    def findings(self) -> list[Finding]:
        swapped: dict[tuple[str, str], list[str]] = {}
        for task, episodes in self._pictures.items():
            if len(episodes) < _FEWEST_EPISODES:
                continue
            cameras = sorted({camera for pictures in episodes.values() for camera in pictures})
            usual = {
                camera: np.median(
                    [pictures[camera] for pictures in episodes.values() if camera in pictures],
                    axis=0,
                )
                for camera in cameras
            }
            for episode, pictures in episodes.items():
                for pair in itertools.combinations(sorted(pictures), 2):
                    change = min(self._changes[task, camera] for camera in pair)
                    if _is_swapped(pictures, usual, *pair, change):
                        swapped.setdefault(pair, []).append(episode)
        return [
            Finding(
                check=self.name,
                severity=Severity.ERROR,
                episodes=tuple(episodes),
                subject=f"{first}, {second}",
                measured="each shows what the other shows in the other episodes",
                numbers={"num_episodes": len(episodes)},
                cost="the policy is told left for right",
                remedy="exchange the two streams in these episodes",
            )
            for (first, second), episodes in swapped.items()
        ]


def _thumbnail(frame: npt.NDArray[np.uint8]) -> FloatArray:
    """(side, side, 3) means of blocks of pixels, whatever the frame's size."""
    means = frame.astype(np.float64)
    for axis in (0, 1):
        length = means.shape[axis]
        if length < _SIDE:
            means = means.take(np.arange(_SIDE) * length // _SIDE, axis=axis)
            continue
        starts = np.linspace(0, length, _SIDE, endpoint=False).astype(np.int64)
        counts = np.diff(starts, append=length).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        means = np.add.reduceat(means, starts, axis=axis) / counts
    return means


def _is_swapped(
    pictures: dict[str, FloatArray],
    usual: dict[str, FloatArray],
    first: str,
    second: str,
    change: float,
) -> bool:
    """change: within an episode, of the steadier of the two."""

    def apart(a: FloatArray, b: FloatArray) -> float:
        return float(np.abs(a - b).mean())

    if change > _STEADY * apart(usual[first], usual[second]):
        return False
    as_named = apart(pictures[first], usual[first]) + apart(pictures[second], usual[second])
    exchanged = apart(pictures[first], usual[second]) + apart(pictures[second], usual[first])
    return exchanged < _BETTER * as_named
