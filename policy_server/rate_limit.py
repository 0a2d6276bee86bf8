"""How often a client may call: a token bucket for each, in bounded memory.

A bucket is one number (the generic cell rate algorithm of ITU-T I.371): the time at which it would
be full again. A call moves that time on by 1 / rate and is allowed while it is at most
(burst - 1) / rate ahead.
"""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Hashable
from itertools import islice

# Sums of floating-point seconds differ by less, after years of a machine's being up.
_ROUNDING_S = 1e-6


class RateLimiter:
    """For one thread.

    Over any stretch of t seconds a client gets at most burst + t * max_calls_per_s calls.
    """

    def __init__(
        self,
        *,
        max_calls_per_s: float,
        burst: int,
        max_clients: int = 4096,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """max_clients: the most that are remembered; beyond, the one that called longest ago is
        forgotten, and would begin anew."""
        if not (math.isfinite(max_calls_per_s) and max_calls_per_s > 0):
            raise ValueError(f"max_calls_per_s: expected more than 0, got {max_calls_per_s}")
        for name, value in (("burst", burst), ("max_clients", max_clients)):
            if value < 1:
                raise ValueError(f"{name}: expected at least 1, got {value}")
        self._interval_s = 1 / max_calls_per_s
        self._tolerance_s = (burst - 1) / max_calls_per_s
        self._max_clients = max_clients
        self._clock = clock
        # When each bucket is full again, the client that called longest ago first.
        self._full_at_s: OrderedDict[Hashable, float] = OrderedDict()

    def __len__(self) -> int:
        """Clients that are remembered."""
        return len(self._full_at_s)

    def take(self, client: Hashable) -> float:
        """0.0 where the client may call now, which is then counted; else the seconds to wait.

        A call that was refused does not count, so one that waits as told is allowed.
        """
        now_s = self._clock()
        full_at_s = max(self._full_at_s.get(client, now_s), now_s)
        wait_s = full_at_s - self._tolerance_s - now_s
        if wait_s <= _ROUNDING_S:
            wait_s = 0.0
            full_at_s += self._interval_s
        self._full_at_s[client] = full_at_s
        self._full_at_s.move_to_end(client)
        self._forget(now_s)
        return wait_s

    def _forget(self, now_s: float) -> None:
        """Drop what makes no difference: two a call, so that there is never much to do at once."""
        for client, full_at_s in list(islice(self._full_at_s.items(), 2)):
            if full_at_s > now_s and len(self._full_at_s) <= self._max_clients:
                return
            del self._full_at_s[client]
