"""What is needed next is made beside what is done now."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from queue import SimpleQueue
from threading import Semaphore, Thread
from types import TracebackType
from typing import Generic, TypeVar

_Item = TypeVar("_Item")

# For what is being made when nobody wants it any more: a disk that hangs must not hold up Ctrl-C.
_LAST_ITEM_S = 10.0


@dataclass(frozen=True)
class _End:
    error: BaseException | None


def _nothing() -> None:
    return


class Prefetched(Generic[_Item]):
    """The same items in the same order, made by a thread, so many ahead of what is asked for.

    A context manager, at whose end the thread ends: at once where it waits for room, else with the
    item that it is making. What the making raises is raised in that item's turn.

    begin: called in the thread, before the first item is made.
    """

    def __init__(
        self,
        items: Iterator[_Item],
        num_ahead: int,
        *,
        begin: Callable[[], object] = _nothing,
    ) -> None:
        if num_ahead < 1:
            raise ValueError(f"num_ahead: expected at least 1, got {num_ahead}")
        self._items, self._begin = items, begin
        self._room = Semaphore(num_ahead)
        self._made: SimpleQueue[_Item | _End] = SimpleQueue()
        self._stopped = self._ended = False
        # Left behind by one that is interrupted while it waits, it does not keep a process alive.
        self._thread = Thread(target=self._make_all, name="prefetching", daemon=True)

    def __enter__(self) -> Prefetched[_Item]:
        self._thread.start()
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        self._stopped = self._ended = True
        self._room.release()
        self._thread.join(_LAST_ITEM_S)

    def __iter__(self) -> Prefetched[_Item]:
        return self

    def __next__(self) -> _Item:
        if self._ended:
            raise StopIteration
        made = self._made.get()
        if not isinstance(made, _End):
            self._room.release()
            return made
        self._ended = True
        if made.error is not None:
            raise made.error
        raise StopIteration

    def _make_all(self) -> None:
        error = None
        try:
            self._begin()
            while self._has_room():
                # Kept in no name of this thread's: it would be held until the next one is made.
                self._made.put(next(self._items))
        except StopIteration:
            pass
        # A thread's edge: whoever waits is told, whatever it is.
        except BaseException as raised:  # noqa: BLE001
            error = raised
        self._made.put(_End(error))

    def _has_room(self) -> bool:
        """Waits for it; False where nothing more is wanted."""
        self._room.acquire()
        return not self._stopped
