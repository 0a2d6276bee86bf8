"""What is made ahead: the same, in order, never too much of it, and no thread that outlives it."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator

import pytest

from trainer import prefetching
from trainer.prefetching import Prefetched

_LONG_S = 60


def threads_left() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "prefetching"]


def test_all_items_come_in_order_made_by_a_thread_that_began_as_told() -> None:
    made_by: list[threading.Thread] = []

    def items() -> Iterator[int]:
        for number in range(50):
            made_by.append(threading.current_thread())
            yield number

    with Prefetched(
        items(), 3, begin=lambda: made_by.append(threading.current_thread())
    ) as prefetched:
        assert list(prefetched) == list(range(50))
        assert list(prefetched) == []
    assert len(made_by) == 51
    assert len(set(made_by)) == 1
    assert made_by[0] is not threading.current_thread()
    assert not threads_left()


@pytest.mark.parametrize("num_ahead", [1, 3])
def test_so_many_are_made_ahead_and_no_more(num_ahead: int) -> None:
    asked = 0
    made = [threading.Event() for _ in range(20)]
    too_early: list[int] = []

    def items() -> Iterator[int]:
        for number in range(20):
            if number >= asked + num_ahead:
                too_early.append(number)
            made[number].set()
            yield number

    with Prefetched(items(), num_ahead) as prefetched:
        for number in range(20):
            # Before it is asked for.
            assert made[min(number + num_ahead - 1, 19)].wait(_LONG_S)
            asked += 1
            assert next(prefetched) == number
    assert too_early == []


def test_none_ahead_is_refused() -> None:
    with pytest.raises(ValueError, match="num_ahead: expected at least 1, got 0"):
        Prefetched(iter(()), 0)


def test_an_error_is_raised_in_its_turn() -> None:
    def items() -> Iterator[int]:
        yield 1
        yield 2
        raise OSError("the disk is gone")

    with Prefetched(items(), 5) as prefetched:
        assert [next(prefetched), next(prefetched)] == [1, 2]
        with pytest.raises(OSError, match="the disk is gone"):
            next(prefetched)
        assert list(prefetched) == []
    assert not threads_left()


def test_who_leaves_early_leaves_no_thread() -> None:
    with Prefetched(iter(range(9)), 2) as prefetched:
        assert next(prefetched) == 0
    assert not threads_left()
    assert list(prefetched) == []


def test_ctrl_c_ends_the_wait_for_what_never_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefetching, "_LAST_ITEM_S", 0.01)
    released = threading.Event()

    def items() -> Iterator[int]:
        os.kill(os.getpid(), signal.SIGINT)
        released.wait()
        yield 1

    with pytest.raises(KeyboardInterrupt), Prefetched(items(), 2) as prefetched:
        next(prefetched)
    # It hangs still; once it does not, it ends.
    (hung,) = threads_left()
    released.set()
    hung.join(_LONG_S)
    assert not hung.is_alive()
