"""When a batch goes and who is in it; time is the test's own."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_server.batch_queue import BatchQueue, DeadlineError, QueueFullError

PASS_S = 0.05


@pytest.fixture
def queue() -> BatchQueue[str]:
    queue: BatchQueue[str] = BatchQueue(max_batch_size=4, max_wait_s=0.02, max_waiting=8)
    queue.note_pass(PASS_S, now_s=0.0)
    return queue


def _taken(queue: BatchQueue[str], now_s: float) -> list[str]:
    batch, late = queue.take(now_s)
    assert not late
    return [item for item, _ in batch]


def test_nothing_waits_for_nothing(queue) -> None:
    assert queue.due_s(0.0) is None


def test_a_lone_request_goes_at_once(queue) -> None:
    queue.push("a", client=1, now_s=10.0)
    assert queue.due_s(10.0) == 10.0
    assert _taken(queue, 10.0) == ["a"]


def test_a_full_batch_goes_at_once_whoever_else_is_expected(queue) -> None:
    queue.expect("late one", until_s=11.0)
    for k in range(4):
        queue.push(str(k), client=k, now_s=10.0)
    assert queue.due_s(10.0) == 10.0


def test_it_waits_for_a_session_that_is_about_to_ask_and_no_longer(queue) -> None:
    queue.expect("b", until_s=10.008)
    queue.push("a", client=1, now_s=10.0)
    assert queue.due_s(10.0) == 10.008
    queue.forget("b")
    queue.push("b", client=2, now_s=10.003)
    assert queue.due_s(10.003) <= 10.003
    assert _taken(queue, 10.003) == ["a", "b"]


def test_five_clients_of_a_batch_of_sixteen_never_wait_out_the_timer() -> None:
    queue: BatchQueue[int] = BatchQueue(max_batch_size=16, max_wait_s=0.02, max_waiting=64)
    queue.note_pass(PASS_S, now_s=0.0)
    for session in range(5):
        queue.expect(session, until_s=10.019)
    for session in range(5):
        arrives_s = 10.0 + 0.001 * session
        queue.forget(session)
        queue.push(session, client=session, now_s=arrives_s)
        if session < 4:
            assert queue.due_s(arrives_s) > arrives_s
    assert queue.due_s(10.004) <= 10.004


def test_the_oldest_waits_no_longer_than_it_may(queue) -> None:
    queue.push("a", client=1, now_s=10.0)
    for k in range(3):
        queue.expect(f"later {k}", until_s=99.0)
    assert queue.due_s(10.0) == pytest.approx(10.02)
    queue.push("b", client=2, now_s=10.01)
    assert queue.due_s(10.01) == pytest.approx(10.02)


def test_nobody_waits_for_longer_than_a_forward_pass_takes() -> None:
    queue: BatchQueue[str] = BatchQueue(max_batch_size=4, max_wait_s=0.02, max_waiting=8)
    queue.note_pass(0.001, now_s=0.0)
    queue.push("a", client=1, now_s=10.0)
    queue.expect("b", until_s=99.0)
    assert queue.due_s(10.0) == pytest.approx(10.001)


def _of_two_replicas() -> BatchQueue[str]:
    queue: BatchQueue[str] = BatchQueue(
        max_batch_size=8, max_wait_s=0.02, max_waiting=8, num_replicas=2
    )
    queue.note_pass(PASS_S, now_s=0.0)
    return queue


def test_two_replicas_share_evenly_those_who_wait_and_those_who_come() -> None:
    queue = _of_two_replicas()
    for k in range(4):
        queue.expect(k, until_s=10.015)
    for k in range(2):
        assert queue.due_s(10.0) != 10.0
        queue.forget(k)
        queue.push(str(k), client=k, now_s=10.0)
    assert queue.due_s(10.0) == 10.0
    assert _taken(queue, 10.0) == ["0", "1"]


def test_shares_that_were_uneven_become_even() -> None:
    queue = _of_two_replicas()
    queue.push("alone", client=0, now_s=10.0)
    assert _taken(queue, 10.0) == ["alone"]
    # Its pass goes on while five others come: three are half of all six.
    for k in range(1, 6):
        queue.push(str(k), client=k, now_s=10.01)
    assert queue.due_s(10.01) == 10.01
    assert _taken(queue, 10.01) == ["1", "2", "3"]
    queue.note_pass(PASS_S, now_s=10.05, size=1)
    queue.push("alone", client=0, now_s=10.05)
    assert _taken(queue, 10.05) == ["4", "5", "alone"]


def test_those_who_waited_for_a_pass_still_wait_for_those_whom_it_served() -> None:
    """Otherwise two halves would take turns for ever, each waiting out the other's pass."""
    queue: BatchQueue[str] = BatchQueue(max_batch_size=4, max_wait_s=0.2, max_waiting=8)
    queue.push("a", client=1, now_s=10.0)
    queue.note_pass(PASS_S, now_s=10.04)
    queue.expect("b", until_s=10.045)
    assert queue.due_s(10.04) == pytest.approx(10.045)
    queue.expect("b", until_s=99.0)
    assert queue.due_s(10.04) == pytest.approx(10.04 + PASS_S)


def test_an_expectation_that_was_not_met_is_over_with_the_batch(queue) -> None:
    queue.expect("b", until_s=10.005)
    queue.push("a", client=1, now_s=10.0)
    assert _taken(queue, 10.005) == ["a"]
    queue.push("c", client=1, now_s=10.006)
    assert queue.due_s(10.006) == 10.006


def test_clients_take_turns(queue) -> None:
    for k in range(4):
        queue.push(f"greedy {k}", client="greedy", now_s=10.0)
    queue.push("modest", client="modest", now_s=10.001)
    assert _taken(queue, 10.001) == ["greedy 0", "modest", "greedy 1", "greedy 2"]


def test_a_full_queue_says_when_to_come_back(queue) -> None:
    for k in range(8):
        queue.push(str(k), client=k, now_s=10.0)
    with pytest.raises(QueueFullError, match="8 plans are waiting") as raised:
        queue.push("one more", client=9, now_s=10.0)
    assert raised.value.retry_after_s == pytest.approx(2 * PASS_S)
    assert len(queue) == 8


def test_what_cannot_be_done_in_time_is_not_begun(queue) -> None:
    with pytest.raises(DeadlineError, match="30 ms away and a plan takes about 50 ms"):
        queue.push("a", client=1, now_s=10.0, deadline_s=10.03)
    assert len(queue) == 0


def test_one_slow_pass_locks_nobody_out_for_good(queue) -> None:
    """Nothing runs while all are refused, so no pass would ever tell that it was the exception."""
    queue.note_pass(100 * PASS_S, now_s=5.0)
    for number in range(20):
        with contextlib.suppress(DeadlineError):
            queue.push("a", client=1, now_s=10.0 + number, deadline_s=10.5 + number)
            break
    assert len(queue) == 1


def test_a_batch_of_none_but_late_ones_locks_nobody_out_either(queue) -> None:
    """Each is accepted, waits for a while, and is then too late by the estimate."""
    for number in range(20):
        queue.push("a", client=1, now_s=10.0 + number, deadline_s=10.051 + number)
        batch, late = queue.take(10.01 + number)
        if batch:
            break
        assert late
    assert [item for item, _ in batch] == ["a"]


def test_who_is_refused_while_a_pass_runs_changes_no_estimate(queue) -> None:
    queue.push("a", client=1, now_s=10.0)
    assert _taken(queue, 10.0) == ["a"]
    for _ in range(20):
        with pytest.raises(DeadlineError):
            queue.push("b", client=2, now_s=10.0, deadline_s=10.03)
    assert queue.expected_pass_s == PASS_S


def test_what_waited_too_long_leaves_its_place_to_others(queue) -> None:
    queue.push("late", client=1, now_s=10.0, deadline_s=10.06)
    for k in range(4):
        queue.push(str(k), client=1, now_s=10.0)
    batch, late = queue.take(10.02)
    assert [item for item, _ in batch] == ["0", "1", "2", "3"]
    assert [item for item, _ in late] == ["late"]


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("push"), st.integers(0, 3)),
            st.tuples(st.just("remove"), st.integers(0, 30)),
            st.tuples(st.just("take"), st.just(0)),
        ),
        max_size=60,
    )
)
def test_nothing_is_lost_and_nothing_served_twice(operations) -> None:
    queue: BatchQueue[int] = BatchQueue(max_batch_size=3, max_wait_s=0.0, max_waiting=10)
    waiting: list[int] = []
    by_client: dict[int, list[int]] = {}
    for number, (operation, argument) in enumerate(operations):
        if operation == "push":
            try:
                queue.push(number, client=argument, now_s=0.0)
            except QueueFullError:
                assert len(waiting) == 10
                continue
            waiting.append(number)
            by_client.setdefault(argument, []).append(number)
        elif operation == "remove":
            if argument in waiting:
                waiting.remove(argument)
                next(mine for mine in by_client.values() if argument in mine).remove(argument)
            queue.remove(argument)
        else:
            batch = [item for item, _ in queue.take(0.0)[0]]
            assert len(batch) == min(3, len(waiting))
            for item in batch:
                waiting.remove(item)
                mine = next(mine for mine in by_client.values() if item in mine)
                # One client's requests are served in the order in which they came.
                assert mine.pop(0) == item
        assert len(queue) == len(waiting)
