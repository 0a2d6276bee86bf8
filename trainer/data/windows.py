"""Windows over episodes: an anchor, and the chunk of control steps from it on.

The anchor's own action is the chunk's first. Where a chunk reaches beyond its episode's end, the
last step is repeated and marked invalid: it is neither trained on nor counted in statistics.

Axes: N window, T timestep of the chunk.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt


@dataclass(frozen=True, kw_only=True, eq=False)
class Windows:
    """anchors: (N,) frames. steps: (N, T) frames. valid: (N, T), False beyond the episode."""

    anchors: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]
    valid: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.anchors)


def make_windows(
    episode_starts: npt.NDArray[np.int64], episodes: Sequence[int], chunk_length: int
) -> Windows:
    """One window for every frame of the given episodes.

    episode_starts: (E + 1,) frame numbers; episode e holds frames starts[e] to starts[e + 1] - 1.
    """
    empty = np.zeros(0, np.int64)
    frames = [np.arange(episode_starts[e], episode_starts[e + 1]) for e in episodes]
    anchors_N = np.concatenate([*frames, empty])
    last_N = np.concatenate([*(np.full(len(f), f[-1]) for f in frames), empty])
    steps_NT = anchors_N[:, None] + np.arange(chunk_length)
    return Windows(
        anchors=anchors_N,
        steps=np.minimum(steps_NT, last_N[:, None]),
        valid=steps_NT <= last_N[:, None],
    )


def split_episodes(num_episodes: int, num_validation: int) -> tuple[range, range]:
    """Training and validation episodes: the last ones are held out, but never more than a fifth."""
    held_out = min(num_validation, num_episodes // 5)
    return range(num_episodes - held_out), range(num_episodes - held_out, num_episodes)
