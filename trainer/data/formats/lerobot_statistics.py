"""Statistics as LeRobot notes them: of every episode, and of the whole data set."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.data.statistics.summary import Summary

_QUANTILES = {"q01": 0.01, "q10": 0.10, "q50": 0.50, "q90": 0.90, "q99": 0.99}
# Of an episode's frames, for the statistics of their colours; evenly spread.
MAX_FRAMES = 32
_MAX_SIDE = 96


def summary_of_numbers(numbers: npt.NDArray[Any]) -> Summary:
    """numbers: (T, size)."""
    return Summary.of(numbers)


def summary_of_frames(frames: npt.NDArray[np.uint8]) -> Summary:
    """Of a few frames (N, H, W, 3), by colour, in 0 to 1. Large ones are thinned out."""
    stride = max(1, max(frames.shape[1:3]) // _MAX_SIDE)
    return Summary.of(frames[:, ::stride, ::stride].reshape(-1, 3) / 255.0)


def steps_of_frames(num_steps: int) -> list[int]:
    """Whose frames are summed up."""
    return np.unique(np.linspace(0, num_steps - 1, MAX_FRAMES).round().astype(int)).tolist()


def to_lerobot(
    summary: Summary, *, dtype: str = "float64", num_frames: int | None = None
) -> dict[str, Any]:
    """Lists of a number each column. num_frames: where it is of a camera, whose three numbers
    LeRobot wants as (3, 1, 1), and counts by frames."""
    is_flag = dtype == "bool"
    found: dict[str, Any] = {
        "min": [bool(low) if is_flag else float(low) for low in summary.minimum],
        "max": [bool(high) if is_flag else float(high) for high in summary.maximum],
        "mean": summary.mean.tolist(),
        "std": summary.std.tolist(),
    }
    for name, row in zip(_QUANTILES, summary.quantiles(list(_QUANTILES.values())), strict=True):
        found[name] = row.tolist()
    count = int(summary.count.max(initial=0.0))
    if num_frames is not None:
        found = {name: [[[number]] for number in numbers] for name, numbers in found.items()}
        count = num_frames
    return {**found, "count": [count]}


def merged_statistics(
    parts: Mapping[str, Sequence[Summary]], dtypes: Mapping[str, str], num_frames: Mapping[str, int]
) -> dict[str, Any]:
    """Of the data set, by column."""
    return {
        name: to_lerobot(
            Summary.merged(summaries),
            dtype=dtypes.get(name, "float64"),
            num_frames=num_frames.get(name),
        )
        for name, summaries in parts.items()
    }
