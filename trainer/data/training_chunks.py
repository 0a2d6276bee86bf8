"""Chunks of the training's windows, as the network is given them.

Axes: N window, T timestep, A numbers an action.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from policy_interface.types import FloatArray
from trainer.data.batches import chunk_window
from trainer.data.robot_recordings import RobotRecordings
from trainer.data.robot_transform import RobotTransform
from trainer.data.windows import WindowIndex


def some_chunks(
    recordings: RobotRecordings,
    episodes: Sequence[int],
    transform: RobotTransform,
    *,
    at_most: int,
    seed: int,
) -> FloatArray:
    """(N, T, A), normalised, of windows drawn without repetition: of all where there are few.

    episodes: places in the recordings.
    """
    window = chunk_window(transform.chunk_length)
    lengths = np.diff(recordings.episode_starts)[list(episodes)]
    index = WindowIndex(lengths, window)
    count = min(at_most, len(index))
    drawn = np.random.default_rng(seed).choice(len(index), count, replace=False)
    places, anchors = index.locate(np.sort(drawn))
    first_rows = recordings.episode_starts[np.asarray(episodes)[places]]
    steps, _ = window.steps(anchors, lengths[places])
    rows = first_rows[:, None] + steps
    return transform.encode_actions(
        recordings.actual_poses[first_rows + anchors],
        recordings.action_poses[rows],
        recordings.action_widths_m[rows],
    )
