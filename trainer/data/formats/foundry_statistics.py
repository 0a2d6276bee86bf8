"""`stats.json` as VLA Foundry's normaliser reads it: of each array, over all windows and by step.

The numbers are those of `trainer.data.statistics`; here they are only given Foundry's names and
shapes. As in Foundry, a step counts as often as windows hold it, and padding does not count.

Axes: N window, W step of the window, C column.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray
from trainer.data.statistics.summary import PERCENTILES, Summary

_WINDOWS_AT_ONCE = 4096
_MERGED_AT_ONCE = 16
# Of a digest, as Foundry has them.
_COMPRESSION = 100
_MAX_BUFFER = 1000
_DIGITS = 9


class WindowStatistics:
    """Sums up windows as they come."""

    def __init__(self) -> None:
        self._waiting: dict[str, list[npt.NDArray[Any]]] = {}
        self._num_waiting = 0
        self._parts: dict[str, list[Summary]] = {}
        self._shapes: dict[str, tuple[int, int]] = {}

    def add(self, arrays: Mapping[str, npt.NDArray[Any]], real_NW: npt.NDArray[np.bool_]) -> None:
        """arrays: (N, W, C) by name. real_NW: False where a step is padding."""
        for name, array in arrays.items():
            self._shapes[name] = (array.shape[1], array.shape[2])
            # What is not finite is left out of every number, so padding is made so.
            masked = np.where(real_NW[..., None], array.astype(np.float64), np.nan)
            self._waiting.setdefault(name, []).append(masked.reshape(len(array), -1))
        self._num_waiting += len(real_NW)
        if self._num_waiting >= _WINDOWS_AT_ONCE:
            self._sum_up()

    def to_json(self) -> dict[str, Any]:
        self._sum_up()
        return {
            name: _to_foundry(Summary.merged(parts), *self._shapes[name])
            for name, parts in self._parts.items()
        }

    def _sum_up(self) -> None:
        for name, rows in self._waiting.items():
            parts = self._parts.setdefault(name, [])
            parts.append(Summary.of(np.concatenate(rows)))
            if len(parts) == _MERGED_AT_ONCE:
                self._parts[name] = [Summary.merged(parts)]
        self._waiting, self._num_waiting = {}, 0


def _to_foundry(summary: Summary, num_steps: int, num_columns: int) -> dict[str, Any]:
    """summary: of W * C columns, step by step."""
    steps = [
        summary.columns(slice(step * num_columns, (step + 1) * num_columns))
        for step in range(num_steps)
    ]
    overall = Summary.merged(steps)
    shape = (num_steps, num_columns)
    count_WC = summary.count.reshape(shape)
    variance_WC = _variance(summary).reshape(shape)
    mean_WC = summary.mean.reshape(shape)
    # Foundry's, by the law of total variance.
    weights_WC = count_WC / np.maximum(count_WC.sum(axis=0), 1)
    deviations_WC = (mean_WC - overall.mean) ** 2
    variance_C = (weights_WC * (variance_WC + deviations_WC)).sum(axis=0)
    percentiles_PC = overall.quantiles([p / 100 for p in PERCENTILES])
    percentiles_PWC = summary.quantiles([p / 100 for p in PERCENTILES])
    count = [int(n) for n in count_WC.max(axis=1)]
    return {
        "mean": overall.mean.tolist(),
        "std": np.sqrt(variance_C).tolist(),
        "min": _finite(overall.minimum).tolist(),
        "max": _finite(overall.maximum).tolist(),
        "mean_per_timestep": mean_WC.tolist(),
        "std_per_timestep": np.sqrt(variance_WC).tolist(),
        "min_per_timestep": _finite(summary.minimum).reshape(shape).tolist(),
        "max_per_timestep": _finite(summary.maximum).reshape(shape).tolist(),
        **{
            f"percentile_{p}": _finite(row).tolist()
            for p, row in zip(PERCENTILES, percentiles_PC, strict=True)
        },
        **{
            f"percentile_{p}_per_timestep": _finite(row).reshape(shape).tolist()
            for p, row in zip(PERCENTILES, percentiles_PWC, strict=True)
        },
        "percentile_sample_count": count,
        "count": count,
        "tdigest_state": _digest_state(overall, (num_columns,)),
        "tdigest_state_per_timestep": _digest_state(summary, shape),
    }


def _variance(summary: Summary) -> FloatArray:
    """Of the sample, with Bessel's correction."""
    return np.where(summary.count > 1, summary.squares / np.maximum(summary.count - 1, 1), 0.0)


def _finite(numbers: FloatArray) -> FloatArray:
    """0 for a step that is padding in every window."""
    return np.where(np.isfinite(numbers), numbers, 0.0)


def _digest_state(summary: Summary, shape: tuple[int, ...]) -> dict[str, Any]:
    indices: list[list[int]] = []
    means: list[list[float]] = []
    weights: list[list[int]] = []
    digests = zip(summary.digests.means, summary.digests.weights, strict=True)
    for place, (means_K, weights_K) in zip(np.ndindex(shape), digests, strict=True):
        centroids = _centroids(means_K, weights_K)
        if centroids:
            indices.append([int(n) for n in place])
            means.append([round(mean, _DIGITS) for mean, _ in centroids])
            weights.append([weight for _, weight in centroids])
    return {
        "shape": list(shape),
        "counts": summary.count.astype(int).reshape(shape).tolist(),
        "max_buffer": _MAX_BUFFER,
        "compression": _COMPRESSION,
        "buffers": {"indices": [], "data": []},
        "digests": {"indices": indices, "means": means, "weights": weights},
    }


def _centroids(means_K: FloatArray, weights_K: FloatArray) -> Sequence[tuple[float, int]]:
    """With whole weights of the same sum, which Foundry's are; neighbours two by two where there
    are more than Foundry keeps."""
    used = weights_K > 0
    means, weights = means_K[used], weights_K[used]
    if len(means) > _COMPRESSION:
        odd = len(means) % 2
        pairs = np.pad(weights, (0, odd)).reshape(-1, 2)
        sums = pairs.sum(axis=1)
        means = (np.pad(means, (0, odd)).reshape(-1, 2) * pairs).sum(axis=1) / sums
        weights = sums
    whole = np.diff(np.round(np.cumsum(weights)), prepend=0.0).astype(int)
    return [(float(m), int(w)) for m, w in zip(means, whole, strict=True) if w > 0]


def merge_windows(batches: Iterable[tuple[Mapping[str, npt.NDArray[Any]], Any]]) -> dict[str, Any]:
    """`stats.json` of batches of arrays and of which of their steps are real."""
    statistics = WindowStatistics()
    for arrays, real_NW in batches:
        statistics.add(arrays, real_NW)
    return statistics.to_json()
