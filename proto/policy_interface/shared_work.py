"""One work on several things, shared between the thread that asks and others that are free.

Handing everything to other threads and waiting for them costs two switches, and where no core is
free it only adds to the queue. Here the asking thread begins at one end at once, whoever has time
takes from the other, and what nobody has begun by then it does itself.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def shared(
    work: Callable[[_Item], _Result],
    items: Sequence[_Item],
    *,
    helpers: Executor,
    num_helpers: int,
) -> list[_Result]:
    """`work` of each item, in their order; num_helpers: of the executor's threads, at most.

    Raises what `work` raises, when no thread is at it any more. May run in one of those threads.
    """
    waiting = deque(enumerate(items))
    results: dict[int, _Result] = {}

    def take_part(take: Callable[[], tuple[int, _Item]]) -> None:
        while True:
            try:
                index, item = take()
            except IndexError:
                return
            results[index] = work(item)

    joined = [
        helpers.submit(take_part, waiting.pop) for _ in range(min(num_helpers, len(items) - 1))
    ]
    try:
        take_part(waiting.popleft)
    finally:
        # Where something failed, what is left need not be done.
        waiting.clear()
        begun = [each for each in joined if not each.cancel()]
        failures = [each.exception() for each in begun]
    for failure in failures:
        if failure is not None:
            raise failure
    return [results[index] for index in range(len(items))]
