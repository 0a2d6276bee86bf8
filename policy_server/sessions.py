"""One session a client: its noise, its past observations, the chunk it executes and where in it.

The wire has no call that ends an episode and LBM Eval draws a new client identifier for each, so
sessions end by being forgotten: the longest unused first.
"""

from __future__ import annotations

import time
from collections import OrderedDict, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from uuid import UUID

import numpy as np

from policy_interface.types import Action, Observation


class UnknownSessionError(LookupError):
    """A step of a client that has not reset, or whose session was forgotten."""


class SessionBusyError(RuntimeError):
    """A second step of a session whose first is still being answered, or was overtaken."""


class TooManySessionsError(RuntimeError):
    """As many sessions as allowed, and each of them in use."""


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A chunk of actions, and the episode's generator as drawing that chunk's noise left it."""

    chunk: Sequence[Action]
    generator: np.random.Generator


class Session:
    """One episode. Planned at control step 0 and then at every multiple of open_loop_steps.

    A step changes the session only when its action is known. A step that fails or is cancelled
    leaves it as it was, so that the same step sent again gets the same answer.
    """

    def __init__(self, *, seed: int, open_loop_steps: int, num_observations: int) -> None:
        """seed: what the episode's noise is drawn from, through numpy's default_rng."""
        self._generator = np.random.default_rng(seed)
        self._open_loop_steps = open_loop_steps
        self._num_observations = num_observations
        self._past: deque[Observation] = deque(maxlen=num_observations - 1)
        self._chunk: Sequence[Action] = ()
        self._control_step = 0
        self._is_stepping = False

    @property
    def generator(self) -> np.random.Generator:
        """What the next plan draws from; draw from a copy and hand that to `commit_plan`."""
        return self._generator

    @property
    def control_step(self) -> int:
        """How many steps were answered; the index of the next one."""
        return self._control_step

    @property
    def is_stepping(self) -> bool:
        return self._is_stepping

    @property
    def needs_plan(self) -> bool:
        """Whether the next step begins a new chunk."""
        return self._position == 0

    @property
    def needs_observation(self) -> bool:
        """Whether a plan, now or later, looks at the next step's observation."""
        return self.needs_plan or self._is_seen_by_next_plan

    @property
    def _position(self) -> int:
        return self._control_step % self._open_loop_steps

    @property
    def _is_seen_by_next_plan(self) -> bool:
        return self._open_loop_steps - self._position < self._num_observations

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

    def history(self, observation: Observation) -> tuple[Observation, ...]:
        """What a plan looks at now: num_observations, `observation` last.

        An episode that has had fewer repeats its first one.
        """
        seen = (*self._past, observation)
        return (seen[0],) * (self._num_observations - len(seen)) + seen

    def commit_plan(self, plan: Plan, observation: Observation) -> Action:
        """Begin the chunk that was planned from `observation`: its first action."""
        assert self.needs_plan
        assert len(plan.chunk) >= self._open_loop_steps
        self._chunk = plan.chunk
        self._generator = plan.generator
        if not self._is_seen_by_next_plan:
            # Nothing seen so far is looked at again. Images are large and sessions that nobody
            # ends are many, so they are not kept until newer ones push them out.
            self._past.clear()
        return self._advance(observation)

    def continue_chunk(self, observation: Observation | None) -> Action:
        """The chunk's next action. observation: needed only where needs_observation."""
        assert not self.needs_plan
        assert observation is not None or not self.needs_observation
        return self._advance(observation)

    def _advance(self, observation: Observation | None) -> Action:
        action = self._chunk[self._position]
        if observation is not None and self._is_seen_by_next_plan:
            self._past.append(observation)
        self._control_step += 1
        return action


class SessionTable:
    """The sessions by client identifier, at most `max_sessions`, each forgotten when long unused.

    idle_s: a session unused for longer is over.
    presumed_live_s: a session used more recently is not forgotten to make room for another. Its
        robot may be in the middle of an episode, so a newcomer is refused instead.
    """

    def __init__(
        self,
        *,
        max_sessions: int = 1024,
        idle_s: float = 3600.0,
        presumed_live_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_sessions = max_sessions
        self._idle_s = idle_s
        self._presumed_live_s = presumed_live_s
        self._clock = clock
        # Longest unused first, with the time of the last use.
        self._entries: OrderedDict[UUID, tuple[Session, float]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._entries)

    def begin(self, client: UUID, session: Session) -> None:
        """Put `session` in the place of the client's former one, if any.

        Raises TooManySessionsError.
        """
        self._entries.pop(client, None)
        self._forget_unused_for(self._idle_s)
        if len(self._entries) >= self._max_sessions:
            self._forget_unused_for(self._presumed_live_s, at_most=1)
        if len(self._entries) >= self._max_sessions:
            raise TooManySessionsError(
                f"all {self._max_sessions} sessions were used within the last "
                f"{self._presumed_live_s:g} s; try again when an episode has ended"
            )
        self._entries[client] = (session, self._clock())

    def find(self, client: UUID) -> Session:
        """The client's session, used now. Raises UnknownSessionError."""
        self._forget_unused_for(self._idle_s)
        entry = self._entries.get(client)
        if entry is None:
            raise UnknownSessionError(
                f"client {client} has no episode: call PolicyReset before the first PolicyStep "
                f"(an episode unused for {self._idle_s:g} s is forgotten)"
            )
        session = entry[0]
        self._entries[client] = (session, self._clock())
        self._entries.move_to_end(client)
        return session

    def is_current(self, client: UUID, session: Session) -> bool:
        entry = self._entries.get(client)
        return entry is not None and entry[0] is session

    def _forget_unused_for(self, unused_s: float, *, at_most: int | None = None) -> None:
        now_s = self._clock()
        forgotten = []
        for client, (session, used_s) in self._entries.items():
            if now_s - used_s < unused_s or len(forgotten) == at_most:
                break
            if not session.is_stepping:
                forgotten.append(client)
        for client in forgotten:
            del self._entries[client]
