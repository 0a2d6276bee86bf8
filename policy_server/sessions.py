"""One session an episode: its noise, its past observations, its chunks and where in them it is.

LBM Eval's wire has no call that ends an episode, and its client draws a new identifier for each, so
a session ends when its client says so (ours does), with its stream, or by being unused for long.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict, deque
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from typing import Generic, Protocol, TypeVar
from uuid import UUID

from policy_interface.types import Action, Observation
from policy_server.batching import Plan, PlanRequest
from policy_server.execution import Chunk, ChunkExecutor, Execution
from policy_server.metrics import EndReason


class UnknownSessionError(LookupError):
    """A step of a client that has not reset, or whose session was forgotten."""


class SessionBusyError(RuntimeError):
    """A second step of a session whose first is still being answered, or was overtaken."""


class ControlStepError(RuntimeError):
    """A step that is not the episode's next one."""


class TooManySessionsError(RuntimeError):
    """As many sessions as allowed, and each of them in use."""


MakePlan = Callable[[PlanRequest, float | None], Awaitable[Plan]]
"""From what a plan is made of, and the seconds until it is of no more use, if there is an end."""


class PendingPlan:
    """A plan that is being made, or that failed and is made anew when it is asked for again."""

    def __init__(self, *, start: int, request: PlanRequest, make: MakePlan) -> None:
        self.start = start
        self._request = request
        self._make = make
        self._task: asyncio.Task[Plan] | None = None

    @property
    def is_made(self) -> bool:
        return self._task is not None and self._task.done()

    def begin(self) -> None:
        """Make it while other things go on."""
        self._task = asyncio.ensure_future(self._make(self._request, None))
        # Whoever needs the plan sees how it failed; nobody may, if the episode ends before.
        self._task.add_done_callback(lambda task: task.cancelled() or task.exception())

    async def result(self, timeout_s: float | None) -> Plan:
        """Raises what making it raised, and makes it anew the next time."""
        if self._task is None:
            return await self._make(self._request, timeout_s)
        try:
            return await asyncio.shield(self._task)
        except asyncio.CancelledError:
            asking = asyncio.current_task()
            if self._task.cancelled() and asking is not None and not asking.cancelling():
                raise SessionBusyError(
                    "the episode ended while this step was being planned"
                ) from None
            raise
        except Exception:
            self._task = None
            raise

    def cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()


class Session:
    """One episode, a control step at a time.

    A step that fails or is cancelled leaves the session as it was, so that the same step sent again
    gets the same answer.
    """

    def __init__(self, *, seed: int, execution: Execution, num_observations: int) -> None:
        """seed: what the noise of every plan is drawn from."""
        self._seed = seed
        self._num_observations = num_observations
        self._past: deque[tuple[int, Observation]] = deque(maxlen=num_observations)
        self._chunks = ChunkExecutor(execution)
        self._pending: PendingPlan | None = None
        self._num_plans = 0
        self._control_step = 0
        self._is_stepping = False

    @property
    def control_step(self) -> int:
        """The index of the next step."""
        return self._control_step

    @property
    def is_stepping(self) -> bool:
        return self._is_stepping

    @property
    def is_plan_due(self) -> bool:
        """Whether the next step's observation is what a plan starts from."""
        return self._chunks.is_plan_due(self._control_step)

    @property
    def needs_observation(self) -> bool:
        """Whether a plan, now or later, looks at the next step's observation."""
        return self._control_step > self._chunks.next_start - self._num_observations

    @property
    def pending(self) -> PendingPlan | None:
        """The plan that is being made."""
        return self._pending

    @contextmanager
    def stepping(self) -> Iterator[None]:
        """Raises SessionBusyError while another step is under way."""
        if self._is_stepping:
            raise SessionBusyError(
                f"control step {self._control_step} of this client is still being answered; "
                "send one step at a time"
            )
        self._is_stepping = True
        try:
            yield
        finally:
            self._is_stepping = False

    def skip_to(self, control_step: int) -> None:
        """The robot went on by itself, along the chunk that it was sent."""
        assert control_step >= self._control_step
        self._control_step = control_step

    def begin_plan(self, observation: Observation, make: MakePlan) -> PendingPlan:
        """What is to be planned from here. Until it is committed or dropped, it is pending."""
        assert self._pending is None
        start = self._control_step
        self._pending = PendingPlan(
            start=start,
            request=PlanRequest(
                history=self._history(observation),
                seed=(self._seed, self._num_plans),
                guidance=self._chunks.guidance(start),
            ),
            make=make,
        )
        self._chunks.note_start(start)
        return self._pending

    def drop_plan(self) -> None:
        """The plan that was just begun was not made, and the step that began it fails."""
        assert self._pending is not None
        self._pending.cancel()
        self._chunks.retract_start(self._pending.start)
        self._pending = None

    def must_wait(self, *, for_chunk: bool) -> bool:
        """Whether the next step cannot be answered before the pending plan is there.

        for_chunk: whether the whole chunk is asked for: then the newest is worth waiting for.
        """
        if self._pending is None:
            return False
        step = self._control_step
        return (
            for_chunk
            or step >= self._chunks.takes_effect(self._pending.start)
            or not self._chunks.covers(step)
        )

    def commit_plan(self, plan: Plan) -> None:
        """The pending plan is there, and takes effect."""
        assert self._pending is not None
        self._chunks.add(Chunk(start=self._pending.start, actions=plan.actions))
        self._pending = None
        self._num_plans += 1

    def advance(self, observation: Observation | None) -> Action:
        """Answer the step. observation: needed only where needs_observation."""
        step = self._control_step
        if observation is not None and self._num_observations > 1:
            self._past.append((step, observation))
        action = self._chunks.action(step)
        self._control_step = step + 1
        self._chunks.forget_before(step)
        if not self.needs_observation:
            # Nothing seen so far is looked at again. Images are large and idle sessions many, so
            # they are not kept until newer ones push them out.
            self._past.clear()
        return action

    def remaining_chunk(self) -> tuple[Action, ...]:
        """The actions of the step that was just answered and of those after it."""
        return tuple(self._chunks.actions_from(self._control_step - 1))

    @property
    def planned_from(self) -> int:
        return self._chunks.planned_from()

    @property
    def next_plan_step(self) -> int:
        return self._chunks.next_start

    def close(self) -> None:
        """The episode is over."""
        if self._pending is not None:
            self._pending.cancel()

    def _history(self, observation: Observation) -> tuple[Observation, ...]:
        """What a plan looks at now: num_observations, `observation` last.

        An episode that has had fewer repeats its first one.
        """
        oldest = self._control_step - self._num_observations + 1
        past = [seen for step, seen in self._past if step >= oldest]
        history = (*past, observation)
        return (history[0],) * (self._num_observations - len(history)) + history


class _Endable(Protocol):
    @property
    def is_stepping(self) -> bool: ...

    def close(self) -> None: ...


_SessionT = TypeVar("_SessionT", bound=_Endable)


class SessionTable(Generic[_SessionT]):
    """The sessions by client identifier, at most `max_sessions`, each forgotten when long unused.

    idle_s: a session unused for longer is over.
    presumed_live_s: a session used more recently is not forgotten to make room for another. Its
        robot may be in the middle of an episode, so a newcomer is refused instead.
    on_end: told of each session that ends, and why: ended, stream (as its end was told to `end`),
        replaced, idle, or evicted to make room.
    """

    def __init__(
        self,
        *,
        max_sessions: int = 1024,
        idle_s: float = 3600.0,
        presumed_live_s: float = 30.0,
        on_end: Callable[[UUID, _SessionT, EndReason], None] = lambda client, session, reason: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._presumed_live_s = presumed_live_s
        self._on_end = on_end
        self._clock = clock
        # Longest unused first, with the time of the last use.
        self._entries: OrderedDict[UUID, tuple[_SessionT, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, client: UUID, session: _SessionT) -> None:
        """Put `session` in the place of the client's former one, if any.

        Raises TooManySessionsError.
        """
        self.end(client, reason="replaced")
        self.forget_idle()
        if len(self._entries) >= self._max_sessions:
            self._forget_unused_for(self._presumed_live_s, at_most=1, reason="evicted")
        if len(self._entries) >= self._max_sessions:
            raise TooManySessionsError(
                f"all {self._max_sessions} sessions were used within the last "
                f"{self._presumed_live_s:g} s; try again when an episode has ended"
            )
        self._entries[client] = (session, self._clock())

    def find(self, client: UUID) -> _SessionT:
        """The client's session, used now. Raises UnknownSessionError."""
        entry = self._entries.get(client)
        now_s = self._clock()
        if entry is None or (now_s - entry[1] >= self._idle_s and not entry[0].is_stepping):
            self.forget_idle()
            raise UnknownSessionError(
                f"client {client} has no episode: call PolicyReset before the first PolicyStep "
                f"(an episode unused for {self._idle_s:g} s is forgotten)"
            )
        session = entry[0]
        self._entries[client] = (session, now_s)
        self._entries.move_to_end(client)
        return session

    def peek(self, client: UUID) -> _SessionT | None:
        """The client's session, if any; this is no use of it."""
        entry = self._entries.get(client)
        return None if entry is None else entry[0]

    def is_current(self, client: UUID, session: _SessionT) -> bool:
        return self.peek(client) is session

    def end(self, client: UUID, *, reason: EndReason = "ended") -> bool:
        """Forget the client's session; whether there was one."""
        entry = self._entries.pop(client, None)
        if entry is None:
            return False
        self._finish(client, entry[0], reason)
        return True

    def end_all(self) -> None:
        """Forget every session."""
        for client in list(self._entries):
            self.end(client)

    def forget_idle(self) -> float | None:
        """End the sessions that are unused for too long. In how many seconds to ask again."""
        self._forget_unused_for(self._idle_s)
        if not self._entries:
            return None
        _, oldest_used_s = next(iter(self._entries.values()))
        return max(oldest_used_s + self._idle_s - self._clock(), 0.0)

    def _forget_unused_for(
        self, unused_s: float, *, at_most: int | None = None, reason: EndReason = "idle"
    ) -> None:
        now_s = self._clock()
        forgotten = []
        for client, (session, used_s) in self._entries.items():
            if now_s - used_s < unused_s or len(forgotten) == at_most:
                break
            if not session.is_stepping:
                forgotten.append(client)
        for client in forgotten:
            session, _ = self._entries.pop(client)
            self._finish(client, session, reason)

    def _finish(self, client: UUID, session: _SessionT, reason: EndReason) -> None:
        session.close()
        self._on_end(client, session, reason)
