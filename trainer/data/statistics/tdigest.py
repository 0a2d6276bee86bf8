"""Quantiles of many columns at once, in bounded memory, mergeable.

A t-digest (Dunning and Ertl, arXiv:1902.04023) keeps a sorted row of clusters, each a mean and a
weight: small ones at the tails, where percentiles 1 and 99 are asked for, larger in the middle.
Here the scale function k1 cuts the ranks into NUM_CLUSTERS bins once for all columns, so that a
digest of any number of columns is two arrays, and making or merging digests is a sort and a sum,
without a Python loop over numbers or columns.

Axes: C column, N number, K cluster.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from policy_interface.types import FloatArray

NUM_CLUSTERS = 256


def _bins(ranks: FloatArray) -> npt.NDArray[np.int64]:
    """The cluster of ranks in 0 to 1, by k1(q) = arcsin(2 q - 1), stretched over all clusters."""
    stretched = NUM_CLUSTERS * (0.5 + np.arcsin(np.clip(2 * ranks - 1, -1, 1)) / np.pi)
    return np.minimum(stretched.astype(np.int64), NUM_CLUSTERS - 1)


@functools.lru_cache(maxsize=64)
def _cuts(count: int) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Where the clusters of so many numbers of one weight begin, and how many are in each."""
    bins = _bins((np.arange(count) + 0.5) / count)
    starts = np.flatnonzero(np.diff(bins, prepend=-1))
    return starts, np.diff(starts, append=count)


@dataclass(frozen=True, kw_only=True, eq=False)
class Digests:
    """means, weights: (C, K). A cluster of weight 0 is empty; means of the others ascend."""

    means: FloatArray
    weights: FloatArray

    @staticmethod
    def of_sorted(columns_CN: FloatArray) -> Digests:
        """Of finite numbers, ascending along each row."""
        num_columns, count = columns_CN.shape
        means = np.zeros((num_columns, NUM_CLUSTERS))
        weights = np.zeros((num_columns, NUM_CLUSTERS))
        if count <= NUM_CLUSTERS:
            means[:, :count] = columns_CN
            weights[:, :count] = 1
            return Digests(means=means, weights=weights)
        # All weights are one, so that the cuts are the same in every column.
        starts, sizes = _cuts(count)
        means[:, : len(starts)] = np.add.reduceat(columns_CN, starts, axis=1) / sizes
        weights[:, : len(starts)] = sizes
        return Digests(means=means, weights=weights)

    @staticmethod
    def of_weighted(means_CN: FloatArray, weights_CN: FloatArray) -> Digests:
        """Of numbers in any order, those of weight 0 left out."""
        num_columns, count = means_CN.shape
        order = np.argsort(np.where(weights_CN > 0, means_CN, np.inf), axis=1, kind="stable")
        # In the flat array: taking along an axis costs as much as the sort.
        order += np.arange(num_columns)[:, None] * count
        means, weights = means_CN.take(order), weights_CN.take(order)
        most = int((weights > 0).sum(axis=1).max(initial=0))
        means, weights = means[:, :most], weights[:, :most].astype(np.float64)
        if most <= NUM_CLUSTERS:
            space = ((0, 0), (0, NUM_CLUSTERS - most))
            return Digests(
                means=np.pad(np.where(weights > 0, means, 0.0), space),
                weights=np.pad(weights, space).astype(np.float64),
            )
        totals = np.maximum(weights.sum(axis=1, keepdims=True), 1)
        bins = _bins((np.cumsum(weights, axis=1) - weights / 2) / totals)
        places = (bins + np.arange(num_columns)[:, None] * NUM_CLUSTERS).ravel()
        size = num_columns * NUM_CLUSTERS
        merged = np.bincount(places, weights.ravel(), size).astype(np.float64)
        # Sums of deviations from a cluster's first number, lest large offsets cost digits.
        first = np.zeros(size)
        begins = np.flatnonzero(np.diff(places, prepend=-1))
        first[places[begins]] = means.ravel()[begins]
        deviations = np.where(weights > 0, means - first[places].reshape(means.shape), 0.0)
        sums = np.bincount(places, (weights * deviations).ravel(), size)
        full = merged > 0
        centres = np.where(full, first + sums / np.where(full, merged, 1), 0.0)
        shape = (num_columns, NUM_CLUSTERS)
        return Digests(means=centres.reshape(shape), weights=merged.reshape(shape))

    @staticmethod
    def merged(parts: Sequence[Digests]) -> Digests:
        used = [part.num_used for part in parts]
        return Digests.of_weighted(
            np.concatenate([p.means[:, :n] for p, n in zip(parts, used, strict=True)], axis=1),
            np.concatenate([p.weights[:, :n] for p, n in zip(parts, used, strict=True)], axis=1),
        )

    @property
    def num_used(self) -> int:
        """Of the first clusters that any column uses."""
        return int(np.nonzero(self.weights.any(axis=0))[0].max(initial=-1)) + 1

    def quantiles(
        self, probabilities: Sequence[float], minimum: FloatArray, maximum: FloatArray
    ) -> FloatArray:
        """(len(probabilities), C), NaN for an empty column. minimum, maximum: (C,), exact.

        As numpy interpolates: probability p lies at rank p (n - 1). So up to NUM_CLUSTERS numbers
        are answered exactly.
        """
        answers = np.full((len(probabilities), len(self.means)), np.nan)
        for column, (means, weights) in enumerate(zip(self.means, self.weights, strict=True)):
            full = weights > 0
            if not full.any():
                continue
            means, weights = means[full], weights[full]
            ranks = np.cumsum(weights) - (weights + 1) / 2
            last = weights.sum() - 1
            answers[:, column] = np.interp(
                np.asarray(probabilities) * last,
                np.concatenate([[0.0], ranks, [last]]),
                np.concatenate([[minimum[column]], means, [maximum[column]]]),
            )
        return answers
