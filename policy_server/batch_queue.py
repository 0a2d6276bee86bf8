"""Which plans to make next, and when: a queue with no clock and no threads of its own.

Waiting for others to share a forward pass pays only while somebody is about to ask. So a batch goes
as soon as it is full, as soon as nobody else is expected, or when its oldest request has waited for
as long as it may. Clients take turns: one with many episodes does not delay one with a single one.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

# How fast the estimate of a forward pass follows: a fifth of the way each time.
_SMOOTHING = 0.2


class QueueFullError(RuntimeError):
    """No room for another request. retry_after_s: when there will probably be some."""

    def __init__(self, text: str, retry_after_s: float) -> None:
        super().__init__(text)
        self.retry_after_s = retry_after_s


class DeadlineError(RuntimeError):
    """A request that cannot be answered before its deadline."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Waiting(Generic[_Item]):
    item: _Item
    client: Hashable
    asked_s: float
    deadline_s: float


class BatchQueue(Generic[_Item]):
    """All times are seconds of one clock that the caller reads."""

    def __init__(
        self, *, max_batch_size: int, max_wait_s: float, max_waiting: int, num_replicas: int = 1
    ) -> None:
        """num_replicas: how many forward passes may go on at once."""
        self._num_replicas = num_replicas
        self._num_running = 0
        self._max_batch_size = max_batch_size
        self._max_wait_s = max_wait_s
        self._max_waiting = max_waiting
        self._by_client: OrderedDict[Hashable, deque[_Waiting[_Item]]] = OrderedDict()
        self._num_waiting = 0
        self._expected_until_s: dict[Hashable, float] = {}
        self._pass_s: float | None = None
        self._free_since_s = float("-inf")

    def __len__(self) -> int:
        return self._num_waiting

    @property
    def expected_pass_s(self) -> float:
        """How long a forward pass will probably take; 0 while none was seen."""
        return self._pass_s or 0.0

    def note_pass(self, duration_s: float, *, now_s: float, size: int = 0) -> None:
        """A forward pass over a batch of `size` ended now and took so long."""
        self._num_running -= size
        self._free_since_s = now_s
        if self._pass_s is None:
            self._pass_s = duration_s
        else:
            self._pass_s += _SMOOTHING * (duration_s - self._pass_s)

    def expect(self, session: Hashable, until_s: float) -> None:
        """The session will probably ask before until_s."""
        self._expected_until_s[session] = until_s

    def forget(self, session: Hashable) -> None:
        """The session asked, or will not."""
        self._expected_until_s.pop(session, None)

    def push(
        self, item: _Item, *, client: Hashable, now_s: float, deadline_s: float = float("inf")
    ) -> None:
        """Raises QueueFullError, and DeadlineError where a forward pass would end too late."""
        try:
            self._require_time(now_s, deadline_s)
        except DeadlineError:
            self._doubt_estimate()
            raise
        if self._num_waiting >= self._max_waiting:
            passes = -(-self._num_waiting // self._max_batch_size)
            raise QueueFullError(
                f"{self._num_waiting} plans are waiting, as many as may; try again later",
                retry_after_s=passes * max(self.expected_pass_s, 1e-3),
            )
        waiting = _Waiting(item=item, client=client, asked_s=now_s, deadline_s=deadline_s)
        self._by_client.setdefault(client, deque()).append(waiting)
        self._num_waiting += 1

    def _require_time(self, now_s: float, deadline_s: float) -> None:
        if now_s + self.expected_pass_s > deadline_s:
            raise DeadlineError(
                f"the deadline is {max(deadline_s - now_s, 0) * 1e3:.0f} ms away and a plan takes "
                f"about {self.expected_pass_s * 1e3:.0f} ms: not begun"
            )

    def _doubt_estimate(self) -> None:
        """All are refused by the estimate. While nothing runs, no pass corrects it: after one that
        was slow as no other (a first one, a machine that swapped), nobody would ever get in again.
        """
        if self._pass_s is not None and not self._num_running:
            self._pass_s *= 1 - _SMOOTHING

    def remove(self, item: _Item) -> None:
        """Nobody waits for it any more; nothing happens where it was taken already."""
        for client, waitings in self._by_client.items():
            for waiting in waitings:
                if waiting.item is item:
                    waitings.remove(waiting)
                    self._num_waiting -= 1
                    if not waitings:
                        del self._by_client[client]
                    return

    def due_s(self, now_s: float) -> float | None:
        """When to take a batch, where a replica is free: now_s at the latest if at once; None
        while nothing waits."""
        if not self._num_waiting:
            return None
        if self._num_waiting >= self._share(now_s):
            return now_s
        oldest_s = self._oldest_s()
        # Idle for longer than a pass takes, it would have served the first ones without.
        idle_limit_s = max(oldest_s, self._free_since_s) + self.expected_pass_s
        others_s = max(self._expected_until_s.values(), default=now_s)
        return min(oldest_s + self._max_wait_s, idle_limit_s, others_s)

    def _share(self, now_s: float) -> int:
        """How many a batch takes: of all who wait, are expected or are being planned for, each
        replica gets as many. Uneven ones would stay so: whom a pass served comes back together.
        """
        num_expected = sum(until_s > now_s for until_s in self._expected_until_s.values())
        num_sharing = self._num_waiting + num_expected + self._num_running
        return min(self._max_batch_size, -(-num_sharing // self._num_replicas))

    def _oldest_s(self) -> float:
        return min(waitings[0].asked_s for waitings in self._by_client.values())

    def take(
        self, now_s: float
    ) -> tuple[list[tuple[_Item, float]], list[tuple[_Item, DeadlineError]]]:
        """The next batch, each item with the time at which it asked, and those too late for it."""
        most = self._share(now_s)
        batch: list[tuple[_Item, float]] = []
        late: list[tuple[_Item, DeadlineError]] = []
        while self._by_client and len(batch) < most:
            client, waitings = self._by_client.popitem(last=False)
            waiting = waitings.popleft()
            self._num_waiting -= 1
            if waitings:
                self._by_client[client] = waitings
            try:
                self._require_time(now_s, waiting.deadline_s)
            except DeadlineError as error:
                late.append((waiting.item, error))
            else:
                batch.append((waiting.item, waiting.asked_s))
        if late and not batch:
            self._doubt_estimate()
        for session in [s for s, until_s in self._expected_until_s.items() if until_s <= now_s]:
            del self._expected_until_s[session]
        self._num_running += len(batch)
        return batch, late
