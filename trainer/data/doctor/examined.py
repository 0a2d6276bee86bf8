"""An episode as the checks see it: its numbers, and a few of its frames.

Frames are sampled in pairs of neighbouring steps, because a frame that repeats shows only beside
the one before it. The episode is cut into equal stretches and each gives the pair between which
the robot moved most: there a live camera cannot give the same frame twice.

Axes: T control step, N sampled frame, H W image.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.episode import Episode, EpisodeDescription, FieldRole

DEFAULT_FRAME_PAIRS = 6

BoolArray = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, eq=False)
class SampledFrames:
    """steps: (N,), each pair's two beside each other. frames: (N, H, W, 3).

    intrinsics (N, 3, 3) and X_FC (N, 4, 4) where the episode knows them.
    """

    steps: npt.NDArray[np.int64]
    frames: npt.NDArray[np.uint8]
    intrinsics: FloatArray | None
    X_FC: FloatArray | None

    def pairs(self) -> list[tuple[int, int]]:
        """Which of the sampled frames are neighbours in time."""
        return [
            (index, index + 1)
            for index in range(len(self.steps) - 1)
            if self.steps[index + 1] == self.steps[index] + 1
        ]


@dataclass(frozen=True, kw_only=True, eq=False)
class ExaminedEpisode:
    """arrays: every field of numbers, (T, *shape) float64, NaN and all."""

    description: EpisodeDescription
    times_s: FloatArray
    arrays: Mapping[str, FloatArray]
    frames: Mapping[str, SampledFrames]

    def names(self, *roles: FieldRole) -> list[str]:
        """The fields of numbers, of some roles or of all."""
        return [
            name for name in self.arrays if not roles or self.description.fields[name].role in roles
        ]

    @property
    def step_s(self) -> float:
        """The usual time between two control steps; nan in an episode of one step."""
        return float(np.median(np.diff(self.times_s))) if len(self.times_s) > 1 else float("nan")


def examine_episode(episode: Episode, frame_pairs: int) -> ExaminedEpisode:
    """Reads the numbers whole and decodes at most twice `frame_pairs` frames a camera."""
    description = episode.description
    arrays = {
        name: np.asarray(episode.read(name), dtype=np.float64)
        for name, field in description.fields.items()
        if np.dtype(field.dtype).kind in "fiub"
    }
    steps = sampled_steps(motion_of(description, arrays), description.num_steps, frame_pairs)
    frames = {}
    for name, camera in description.cameras.items() if len(steps) else ():
        frames[name] = SampledFrames(
            steps=steps,
            frames=episode.frames(name, steps.tolist()),
            intrinsics=episode.intrinsics(name)[steps] if camera.has_intrinsics else None,
            X_FC=episode.extrinsics(name)[steps] if camera.has_extrinsics else None,
        )
    return ExaminedEpisode(
        description=description, times_s=episode.times_s(), arrays=arrays, frames=frames
    )


def motion_of(description: EpisodeDescription, arrays: Mapping[str, FloatArray]) -> FloatArray:
    """(T - 1,) how far the robot went between steps, each field against its own range.

    Of what was observed; of the actions where nothing was.
    """
    total = np.zeros(max(description.num_steps - 1, 0))
    for role in ("observed", "action"):
        for name, values in arrays.items():
            if description.fields[name].role != role or len(values) < 2:
                continue
            changes = changes_of(values)
            if changes is not None:
                total = np.maximum(total, changes)
        if total.any():
            break
    return total


def changes_of(values: FloatArray) -> FloatArray | None:
    """(T - 1,) how far a field goes between steps, in parts of its range; of its numbers the most.

    None where it hardly moves: noise would fill its whole range.
    """
    flat = np.nan_to_num(values.reshape(len(values), -1), posinf=0.0, neginf=0.0)
    ranges = np.ptp(flat, axis=0)
    moving = ranges > 1e-3
    if not moving.any():
        return None
    return (np.abs(np.diff(flat[:, moving], axis=0)) / ranges[moving]).max(axis=1)


def sampled_steps(motion: FloatArray, num_steps: int, frame_pairs: int) -> npt.NDArray[np.int64]:
    """Ascending, without repetition; pairs of neighbours, one a stretch of the episode."""
    if num_steps == 1 or frame_pairs == 0:
        return np.arange(min(num_steps, frame_pairs), dtype=np.int64)
    bounds = np.linspace(0, num_steps - 1, min(frame_pairs, num_steps - 1) + 1).astype(np.int64)
    chosen: set[int] = set()
    for start, stop in itertools.pairwise(bounds):
        first = int(start + np.argmax(motion[start:stop]))
        chosen |= {first, first + 1}
    return np.array(sorted(chosen), dtype=np.int64)
