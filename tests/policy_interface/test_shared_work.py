"""Work is done once, in order, by whoever is free, and nobody is at it when it has failed."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from policy_interface.shared_work import shared


def test_results_come_in_the_items_order_and_each_is_made_once() -> None:
    seen = []

    def work(item: int) -> int:
        seen.append(item)
        return item * item

    with ThreadPoolExecutor(3) as threads:
        for num_items in (0, 1, 2, 50):
            seen.clear()
            items = range(num_items)
            made = shared(work, items, helpers=threads, num_helpers=3)
            assert made == [item * item for item in items]
            assert sorted(seen) == list(items)


def test_a_free_thread_takes_part() -> None:
    """Each of two items waits for the other to be begun: one thread alone would wait for ever."""
    both = threading.Barrier(2, timeout=60)
    with ThreadPoolExecutor(1) as threads:
        made = shared(lambda _: both.wait() >= 0, [1, 2], helpers=threads, num_helpers=1)
    assert made == [True, True]


def test_where_no_thread_is_free_the_asking_one_does_it_all() -> None:
    done = threading.Event()
    with ThreadPoolExecutor(1) as threads:
        threads.submit(done.wait)
        me = threading.get_ident()
        made = shared(lambda _: threading.get_ident(), range(5), helpers=threads, num_helpers=1)
        assert made == [me] * 5
        done.set()


@pytest.mark.parametrize("failing", [0, 3])
def test_a_failure_is_raised_when_no_thread_is_at_it_any_more(failing: int) -> None:
    """The first item is the asking thread's, the last the helper's."""
    both = threading.Barrier(2, timeout=60)
    num_busy = 0

    def work(item: int) -> None:
        nonlocal num_busy
        num_busy += 1
        try:
            if item in (0, 3):
                both.wait()
            if item == failing:
                raise ValueError(f"item {item}")
        finally:
            num_busy -= 1

    with ThreadPoolExecutor(1) as threads:
        with pytest.raises(ValueError, match=f"item {failing}"):
            shared(work, range(4), helpers=threads, num_helpers=1)
        assert num_busy == 0
