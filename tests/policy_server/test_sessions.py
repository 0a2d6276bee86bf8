"""Which sessions are forgotten when; time is the test's own."""

from __future__ import annotations

import asyncio
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.types import Action
from policy_server.batching import Plan, PlanRequest
from policy_server.execution import Execution
from policy_server.sessions import (
    Session,
    SessionBusyError,
    SessionTable,
    TooManySessionsError,
    UnknownSessionError,
)
from policy_server.testing import NoisePolicy


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def _session() -> Session:
    return Session(seed=0, execution=_execution(1, 1), num_observations=1)


def _execution(num_execute_steps: int, chunk_length: int) -> Execution:
    return Execution.resolve(
        NoisePolicy(chunk_length=chunk_length), num_execute_steps=num_execute_steps
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def table(clock: Clock) -> SessionTable:
    return SessionTable(max_sessions=3, idle_s=100.0, presumed_live_s=10.0, clock=clock)


def _begin(table: SessionTable) -> tuple[uuid.UUID, Session]:
    client, session = uuid.uuid4(), _session()
    table.begin(client, session)
    return client, session


def test_a_session_unused_for_long_is_forgotten(table, clock) -> None:
    client, session = _begin(table)
    clock.now_s = 99
    assert table.find(client) is session
    clock.now_s = 99 + 99
    assert table.find(client) is session
    clock.now_s += 100
    with pytest.raises(UnknownSessionError, match=str(client)):
        table.find(client)
    assert len(table) == 0


def test_a_full_table_forgets_the_longest_unused(table, clock) -> None:
    first, _ = _begin(table)
    second, _ = _begin(table)
    third, _ = _begin(table)
    clock.now_s = 5
    table.find(first)
    clock.now_s = 12
    fourth, _ = _begin(table)
    assert len(table) == 3
    with pytest.raises(UnknownSessionError):
        table.find(second)
    for client in (first, third, fourth):
        table.find(client)


def test_a_full_table_refuses_rather_than_forget_a_live_session(table, clock) -> None:
    clients = [_begin(table)[0] for _ in range(3)]
    clock.now_s = 9
    with pytest.raises(TooManySessionsError):
        _begin(table)
    for client in clients:
        table.find(client)


def test_a_session_with_a_step_under_way_is_not_forgotten(table, clock) -> None:
    client, session = _begin(table)
    with session.stepping():
        clock.now_s = 1000
        other, _ = _begin(table)
        assert table.find(client) is session
        table.find(other)


def test_a_client_that_resets_takes_no_second_place(table) -> None:
    client, old = _begin(table)
    new = _session()
    for _ in range(5):
        table.begin(client, new)
    assert len(table) == 1
    assert table.is_current(client, new)
    assert not table.is_current(client, old)


def test_one_step_at_a_time() -> None:
    session = _session()
    with session.stepping(), pytest.raises(SessionBusyError), session.stepping():
        pass
    with session.stepping():
        pass


@pytest.fixture(scope="module")
def observations(make_observation) -> list:
    return [make_observation(step, time_s=float(step)) for step in range(30)]


@given(open_loop_steps=st.integers(1, 9), num_observations=st.integers(1, 9))
def test_what_it_asks_for_is_what_the_next_plan_looks_at(
    observations, open_loop_steps, num_observations
) -> None:
    """Whatever the two numbers: planned when due, from the latest, given only what it asks for."""
    session = Session(
        seed=7,
        execution=_execution(open_loop_steps, open_loop_steps),
        num_observations=num_observations,
    )
    chunk = [Action(poses={}, gripper_widths_m={"g": float(k)}) for k in range(open_loop_steps)]
    requests: list[PlanRequest] = []

    async def make(request: PlanRequest, timeout_s: float | None) -> Plan:
        requests.append(request)
        return Plan(actions=chunk)

    async def episode() -> None:
        for step, observation in enumerate(observations):
            assert session.control_step == step
            assert session.is_plan_due == (step % open_loop_steps == 0)
            needed = session.needs_observation
            if session.is_plan_due:
                assert needed
                plan = await session.begin_plan(observation, make).result(None)
                assert session.must_wait(for_chunk=False)
                session.commit_plan(plan)
                assert [each.time_s for each in requests[-1].history] == [
                    max(step - back, 0) for back in reversed(range(num_observations))
                ]
                assert requests[-1].seed == (7, step // open_loop_steps)
            action = session.advance(observation if needed else None)
            assert action is chunk[step % open_loop_steps]

    asyncio.run(episode())


def test_a_plan_that_was_not_made_leaves_no_trace(observations) -> None:
    session = Session(seed=0, execution=_execution(2, 4), num_observations=1)

    async def make(request: PlanRequest, timeout_s: float | None) -> Plan:
        raise RuntimeError("not today")

    async def failing() -> None:
        with pytest.raises(RuntimeError, match="not today"):
            await session.begin_plan(observations[0], make).result(None)

    for _ in range(3):
        assert session.is_plan_due
        asyncio.run(failing())
        session.drop_plan()
        assert session.control_step == 0


def test_a_table_that_is_told_of_an_end_tells_why() -> None:
    ends: list[tuple[uuid.UUID, str]] = []
    clock = Clock()
    table: SessionTable[Session] = SessionTable(
        idle_s=10, clock=clock, on_end=lambda client, _, reason: ends.append((client, reason))
    )
    first, second = uuid.uuid4(), uuid.uuid4()
    table.begin(first, _session())
    table.begin(first, _session())
    assert table.end(first)
    assert not table.end(first)
    table.begin(second, _session())
    clock.now_s = 4
    assert table.forget_idle() == 6
    clock.now_s = 10
    assert table.forget_idle() is None
    assert ends == [(first, "replaced"), (first, "ended"), (second, "idle")]
