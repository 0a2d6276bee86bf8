"""Which window is sample number n: a function of the seed and of n, and of nothing else.

So a run's place in its data is one number. It may stop after any optimizer step and go on with
another number of ranks or workers: the samples that remain are the same, none lost, none twice.

Orders are permutations given by a function, not by an array: a data set of any size is shuffled as
a whole, in no memory, and any place in the order is found at once.

Axes: N sample.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from trainer.data.counter_random import UintArray, hashed
from trainer.data.errors import DataError
from trainer.data.windows import IntArray

# Changes when several sources are mixed in another order: a run cannot go on in that one.
MIXTURE_ORDER = 2

# Samples among which each source's share is exact, in whole samples.
_PERIOD = 2**16
# Enough that orders of seven look random; for large halves three suffice (Luby and Rackoff 1988).
_FEISTEL_ROUNDS = 6
_LEAST_BITS = 3

# Independent streams under one seed.
_ORDER_STREAM, _MIXTURE_STREAM = 0, 1


def permuted(places: npt.ArrayLike, size: npt.ArrayLike, *keys: npt.ArrayLike) -> IntArray:
    """Where the permutation of range(size) that `keys` choose sends these places.

    A Feistel network permutes the numbers of an even number of bits; one that lands beyond the
    size is sent on until it does not (cycle walking), which takes four turns at most on average.
    All arguments are broadcast against each other.
    """
    at, sizes, key = np.broadcast_arrays(
        np.asarray(places, dtype=np.uint64), np.asarray(size, dtype=np.uint64), hashed(*keys)
    )
    shape = at.shape
    at, sizes, key = at.ravel().copy(), sizes.ravel(), key.ravel()
    if not (at < sizes).all():
        raise ValueError("expected places within the size")
    bits = np.ceil(np.log2(np.maximum(sizes, 2).astype(np.float64)) / 2).astype(np.uint64)
    # A logarithm may be rounded the wrong way.
    bits = np.maximum(bits + ((np.uint64(1) << (2 * bits)) < sizes), np.uint64(_LEAST_BITS))
    round_keys = np.stack([hashed(key, turn) for turn in range(_FEISTEL_ROUNDS)])
    waiting = np.arange(len(at))
    while len(waiting):
        at[waiting] = _feistel(at[waiting], bits[waiting], round_keys[:, waiting])
        waiting = waiting[at[waiting] >= sizes[waiting]]
    return at.astype(np.int64).reshape(shape)


def _feistel(at: UintArray, bits: UintArray, round_keys: UintArray) -> UintArray:
    mask = (np.uint64(1) << bits) - np.uint64(1)
    left, right = at >> bits, at & mask
    for key in round_keys:
        left, right = right, left ^ (hashed(key ^ right) & mask)
    return (left << bits) | right


@dataclass(frozen=True, kw_only=True)
class Source:
    """A data set in a mixture. num_samples: windows, or texts. weight: share of samples."""

    name: str
    num_samples: int
    weight: float = 1.0


@dataclass(frozen=True, kw_only=True, eq=False)
class Samples:
    """number: (N,) in the order of training. source: (N,). index: (N,) within its source."""

    number: IntArray
    source: IntArray
    index: IntArray

    def __len__(self) -> int:
        return len(self.number)


class _Period(NamedTuple):
    """source: (_PERIOD,), by place. earlier: (_PERIOD,), places before it of the same source."""

    number: int
    source: IntArray
    earlier: IntArray


class Mixture:
    """An endless, shuffled, weighted sequence of samples of several sources.

    Of any 65536 successive samples from a multiple of that on, each source has its share, to one
    sample; within them, sources are shuffled sample by sample, so that a batch is mixed as the
    whole is. Every sample of a source comes once before any comes twice, in a new order each time.
    Threads may ask at once.
    """

    def __init__(self, sources: Sequence[Source], seed: int) -> None:
        """Raises DataError for an empty source, or a share of less than one in 65536."""
        if not sources:
            raise DataError("mixture: expected at least one source, got none")
        for source in sources:
            if source.num_samples < 1:
                raise DataError(f"mixture: source {source.name!r} holds no sample")
            if not 0 < source.weight < np.inf:
                raise DataError(
                    f"mixture: source {source.name!r}: expected a positive weight, "
                    f"got {source.weight}"
                )
        self.sources, self.seed = tuple(sources), seed
        self._sizes = np.array([source.num_samples for source in sources], dtype=np.int64)
        self._shares = _shares(sources)
        self._ends = np.cumsum(self._shares)
        # That of the newest samples: it takes as long to make as many a step.
        self._period: _Period | None = None

    def samples(self, numbers: npt.ArrayLike) -> Samples:
        """Any numbers from 0 on, in any order."""
        number = np.asarray(numbers, dtype=np.int64)
        if len(self.sources) == 1:
            # Nothing to mix, and the order of one source is easier to think about.
            source, turn = np.zeros_like(number), number
        else:
            source, turn = np.empty_like(number), np.empty_like(number)
            periods, places = np.divmod(number, _PERIOD)
            for each in np.unique(periods):
                here = periods == each
                period = self._mixed(int(each))
                source[here] = period.source[places[here]]
                before = each * self._shares[source[here]]
                turn[here] = before + period.earlier[places[here]]
        size = self._sizes[source]
        epoch, at = np.divmod(turn, size)
        index = permuted(at, size, self.seed, _ORDER_STREAM, source, epoch)
        return Samples(number=number, source=source, index=index)

    def _mixed(self, number: int) -> _Period:
        period = self._period
        if period is None or period.number != number:
            slots = permuted(np.arange(_PERIOD), _PERIOD, self.seed, _MIXTURE_STREAM, number)
            source = np.searchsorted(self._ends, slots, side="right")
            # Places source by source, each source's ascending.
            places = np.argsort(source, kind="stable")
            earlier = np.empty_like(places)
            earlier[places] = np.arange(_PERIOD) - (self._ends - self._shares)[source[places]]
            period = self._period = _Period(number, source, earlier)
        return period

    def batch(self, step: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> Samples:
        """A rank's part of the batch of optimizer step `step`: see `share_of_batch`."""
        return self.samples(share_of_batch(step, batch_size, rank, num_ranks))


def share_of_batch(step: int, batch_size: int, rank: int = 0, num_ranks: int = 1) -> range:
    """Numbers of the samples that are a rank's part of the batch of optimizer step `step`, counted
    from 0.

    Parts follow each other, and differ by at most one sample in size.
    """
    if not 0 <= rank < num_ranks <= batch_size:
        raise ValueError(
            f"expected ranks from 0 to {num_ranks - 1}, of which there are at most "
            f"{batch_size}, got rank {rank} of {num_ranks}"
        )
    return range(*(step * batch_size + batch_size * r // num_ranks for r in (rank, rank + 1)))


def _shares(sources: Sequence[Source]) -> IntArray:
    """Samples of each source in a period: the nearest whole numbers of that sum."""
    weights = np.array([source.weight for source in sources], dtype=np.float64)
    exact = _PERIOD * weights / weights.sum()
    shares = np.floor(exact).astype(np.int64)
    most_missed = np.argsort(shares - exact, kind="stable")
    shares[most_missed[: _PERIOD - shares.sum()]] += 1
    for source, share, wanted in zip(sources, shares, exact, strict=True):
        if wanted < 1:
            raise DataError(
                f"mixture: source {source.name!r}: expected a share of at least 1 in {_PERIOD}, "
                f"got {wanted / _PERIOD:.2g}; raise its weight or leave it out"
            )
        assert share >= 1
    return shares
