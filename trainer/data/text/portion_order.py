"""Which sequence of which portion is sample n, where not all of them are known yet.

The seed shuffles the portions, and the sequences of successive portions, a window, among
themselves. So a sample needs no more of the data than the portions up to the end of its window.
The first windows are small, lest the first step wait for many portions; each may be half as large
as all that came before it, so that its tokens can be made while those are learnt from. From the
second time through on, windows are as large as they get.

It is a function of the seed and of how many sequences each portion has, whatever came in time.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from trainer.data.errors import DataError
from trainer.data.sampling import permuted
from trainer.data.windows import IntArray

# Of some MB of text each: far more sequences than a batch has.
MOST_PORTIONS = 64

# Independent streams under one seed.
_PORTION_STREAM, _SEQUENCE_STREAM = 12, 13

_TIMES_AT_HAND = 2


@dataclass(frozen=True, eq=False)
class _Window:
    """first: number of its first sequence in a time through. ends: by portion, within it."""

    first: int
    portions: IntArray
    ends: IntArray


class PortionOrder:
    """count: how many sequences a portion has; it may wait until that is known.

    ask: is told which portions will be counted next, before it is waited for the first of them.
    """

    def __init__(
        self,
        num_portions: int,
        seed: int,
        *,
        count: Callable[[int], int],
        ask: Callable[[IntArray], object],
        where: object,
    ) -> None:
        self._num_portions, self._seed = num_portions, seed
        self._count, self._ask, self._where = count, ask, where
        self._time_through = lru_cache(_TIMES_AT_HAND)(self._begun)
        self._first_time = self._begun(0)

    def _begun(self, time: int) -> _TimeThrough:
        portions = permuted(
            np.arange(self._num_portions), self._num_portions, self._seed, _PORTION_STREAM, time
        )
        return _TimeThrough(portions, (self._seed, time), self._count, self._ask)

    def find(self, number: int) -> tuple[int, int]:
        """Of sample `number`, counted from 0: its portion, and its place in that.

        Raises DataError where no portion has any.
        """
        found = self._first_time.find(number)
        if found is not None:
            return found
        size = self._first_time.num_known
        if not size:
            raise DataError("holds nothing to learn", where=self._where)
        time, at = divmod(number, size)
        found = self._time_through(time).find(at)
        assert found is not None
        return found


class _TimeThrough:
    """All portions, once."""

    def __init__(
        self,
        portions: IntArray,
        keys: tuple[int, int],
        count: Callable[[int], int],
        ask: Callable[[IntArray], object],
    ) -> None:
        self._portions, self._keys = portions, keys
        self._count, self._ask = count, ask
        self._windows: list[_Window] = []
        self._begin, self.num_known = 0, 0

    def find(self, at: int) -> tuple[int, int] | None:
        """None beyond the last."""
        while at >= self.num_known:
            if self._begin == len(self._portions):
                return None
            self._add_window()
        which = bisect_right(self._windows, at, key=lambda window: window.first) - 1
        window = self._windows[which]
        size = int(window.ends[-1])
        place = int(permuted(at - window.first, size, *self._keys, _SEQUENCE_STREAM, which))
        within = int(np.searchsorted(window.ends, place, side="right"))
        before = int(window.ends[within - 1]) if within else 0
        return int(window.portions[within]), place - before

    def _add_window(self) -> None:
        end = self._end_after(self._begin)
        # The one after it too, to be made while this one is learnt from.
        self._ask(self._portions[self._begin : self._end_after(end)])
        portions = self._portions[self._begin : end]
        ends = np.cumsum([self._count(int(portion)) for portion in portions], dtype=np.int64)
        if ends[-1]:
            self._windows.append(_Window(self.num_known, portions, ends))
            self.num_known += int(ends[-1])
        self._begin = end

    def _end_after(self, begin: int) -> int:
        _, time = self._keys
        size = MOST_PORTIONS if time else min(max(1, begin // 2), MOST_PORTIONS)
        return min(begin + size, len(self._portions))
