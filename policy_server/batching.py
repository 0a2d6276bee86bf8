"""Plans for several episodes in one forward pass: the queue's clock, and the threads that plan."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Hashable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from typing import overload

import numpy as np

from policy_interface.contract import ContractError, action_violations
from policy_interface.types import Action, ChunkGuidance, InvalidValueError, Observation
from policy_server.batch_queue import BatchQueue, DeadlineError
from policy_server.policy import GuidedPolicy, Policy, plans_instantly

logger = logging.getLogger(__name__)


# A client that took so long between an answer and its next step will hardly take much longer.
_THINK_MARGIN = 1.5
_THINK_SLACK_S = 0.003


class PolicyFailedError(RuntimeError):
    """A policy that raised, or that planned something that must not reach a robot."""


class InvalidPlanError(PolicyFailedError):
    """A policy that planned what is no chunk of actions: no machine's fault, but its own."""


@dataclass(frozen=True, kw_only=True, eq=False)
class PlanRequest:
    """What a plan is made of.

    history: num_observations, the newest last. seed: of this plan's noise alone, so that the same
    request gets the same plan whenever it is made. guidance: None where there is none.
    """

    history: Sequence[Observation]
    seed: tuple[int, ...]
    guidance: ChunkGuidance | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Plan:
    """A chunk, from the request's newest observation on, and how long it waited and took."""

    actions: Sequence[Action]
    queue_s: float = 0.0
    inference_s: float = 0.0


# A chunk, or why there is none.
_Outcome = Sequence[Action] | PolicyFailedError | ContractError


@dataclass(frozen=True, kw_only=True, eq=False)
class _Job:
    request: PlanRequest
    answer: asyncio.Future[Plan]


@dataclass(frozen=True, kw_only=True, eq=False)
class Replica:
    """A policy and the one thread where it runs. Replicas of one policy plan the same."""

    policy: Policy
    worker: Executor


class Batcher:
    """The queue before the replicas of one policy. For one event loop; every method runs on it.

    Each replica makes one forward pass at a time, so as many go on at once as there are replicas.
    """

    def __init__(
        self,
        replicas: Sequence[Replica],
        *,
        min_actions: int,
        max_batch_size: int,
        max_wait_s: float,
        max_waiting: int,
        on_batch: Callable[[int, float], None],
        on_idle: Callable[[], None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """on_batch: told each batch's size and seconds. on_idle: told when `is_idle` holds (again).

        min_actions: how many actions of a chunk may be executed; a shorter one is an error.
        """
        self._free = list(replicas)
        self._num_replicas = len(replicas)
        self._min_actions = min_actions
        self._queue: BatchQueue[_Job] = BatchQueue(
            max_batch_size=max_batch_size,
            max_wait_s=max_wait_s,
            max_waiting=max_waiting,
            num_replicas=len(replicas),
        )
        self._max_batch_size = max_batch_size
        self._max_wait_s = max_wait_s
        self._instant = replicas[0].policy if plans_instantly(replicas[0].policy) else None
        self._on_batch = on_batch
        self._on_idle = on_idle
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._timer: asyncio.TimerHandle | None = None
        self._idle = asyncio.Event()
        self._idle.set()

    @property
    def num_waiting(self) -> int:
        """Requests that no forward pass has taken yet."""
        return len(self._queue)

    @property
    def is_idle(self) -> bool:
        """Whether no forward pass runs and none waits."""
        return self._idle.is_set()

    async def wait_until_idle(self) -> None:
        """Return when no forward pass runs and none waits."""
        await self._idle.wait()

    def expect(self, session: Hashable, think_s: float) -> None:
        """The session will ask for a plan, and took so long to think of late.

        Waiting for it pays where that is less than a forward pass takes: then one pass for all
        comes sooner than two, one after the other.
        """
        most_s = min(self._max_wait_s, self._queue.expected_pass_s)
        if think_s <= most_s:
            within_s = min(_THINK_MARGIN * think_s + _THINK_SLACK_S, most_s)
            self._queue.expect(session, self._clock() + within_s)

    def forget(self, session: Hashable) -> None:
        """The session ended, or asked for something else."""
        self._queue.forget(session)
        self._dispatch()

    async def plan(
        self,
        request: PlanRequest,
        *,
        session: Hashable = None,
        client: Hashable = None,
        timeout_s: float | None = None,
    ) -> Plan:
        """A chunk for one episode.

        session: whose it is, as `expect` knows it. client: who takes turns with the others.
        timeout_s: when the answer is of no more use.

        Raises PolicyFailedError and ContractError for this request alone, whatever becomes of its
        batch mates, QueueFullError, and DeadlineError where it can't be planned in time.
        """
        if self._instant is not None:
            return self._planned_here(self._instant, request)
        now_s = self._clock()
        job = _Job(request=request, answer=self._loop.create_future())
        self._queue.forget(session)
        self._queue.push(
            job,
            client=client,
            now_s=now_s,
            deadline_s=float("inf") if timeout_s is None else now_s + timeout_s,
        )
        self._idle.clear()
        self._dispatch()
        try:
            return await job.answer
        except asyncio.CancelledError:
            # Nobody waits for the answer any more: don't spend a place in a batch on it.
            self._queue.remove(job)
            self._dispatch()
            raise

    def _planned_here(self, policy: Policy, request: PlanRequest) -> Plan:
        """A plan made at once, on the event loop. Raises PolicyFailedError and ContractError."""
        (outcome,), duration_s = self._outcomes(policy, [request])
        self._on_batch(1, duration_s)
        if isinstance(outcome, Exception):
            raise outcome
        return Plan(actions=outcome, inference_s=duration_s)

    def _dispatch(self) -> None:
        """Begin the forward passes that are due, or see to it that this is asked again in time."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._free:
            now_s = self._clock()
            due_s = self._queue.due_s(now_s)
            if due_s is None:
                if len(self._free) == self._num_replicas:
                    self._idle.set()
                    self._on_idle()
                return
            if due_s > now_s:
                self._timer = self._loop.call_later(due_s - now_s, self._dispatch)
                return
            self._begin(now_s)

    def _begin(self, now_s: float) -> None:
        batch, late = self._queue.take(now_s)
        for job, error in late:
            _fail(job, error)
        if not batch:
            return
        # The one that was at work last: what it needs is still in the processor's caches.
        replica = self._free.pop()
        jobs = [job for job, _ in batch]
        queued_s = [now_s - asked_s for _, asked_s in batch]
        replica.worker.submit(self._work, replica, jobs, queued_s)

    def _work(self, replica: Replica, jobs: Sequence[_Job], queued_s: Sequence[float]) -> None:
        """In the replica's thread."""
        started_s = time.perf_counter()
        outcomes, pass_s = self._outcomes(replica.policy, [job.request for job in jobs])
        duration_s = time.perf_counter() - started_s
        try:
            self._loop.call_soon_threadsafe(
                self._finish, replica, jobs, queued_s, outcomes, duration_s, pass_s
            )
        except RuntimeError:
            logger.debug("the server stopped while %d plans were being made", len(jobs))

    def _finish(
        self,
        replica: Replica,
        jobs: Sequence[_Job],
        queued_s: Sequence[float],
        outcomes: Sequence[_Outcome],
        duration_s: float,
        pass_s: float,
    ) -> None:
        self._free.append(replica)
        self._queue.note_pass(pass_s, now_s=self._clock(), size=len(jobs))
        self._on_batch(len(jobs), duration_s)
        if len(self._queue) >= self._max_batch_size:
            self._dispatch()
        for job, queue_s, outcome in zip(jobs, queued_s, outcomes, strict=True):
            if isinstance(outcome, Exception):
                _fail(job, outcome)
            elif not job.answer.done():
                job.answer.set_result(
                    Plan(actions=outcome, queue_s=queue_s, inference_s=duration_s)
                )
        # After those who waited for these answers had their turn: they say who asks again soon.
        self._loop.call_soon(self._dispatch)

    def _outcomes(
        self, policy: Policy, requests: Sequence[PlanRequest]
    ) -> tuple[list[_Outcome], float]:
        """One for each request, and the seconds of a forward pass; of the longest, where a batch
        failed and each is planned for alone. Runs in the replica's thread and raises nothing.
        """
        started_s = time.perf_counter()
        try:
            chunks = _chunks(policy, requests)
            if len(chunks) != len(requests):
                raise PolicyFailedError(
                    f"expected a chunk for each of {len(requests)} episodes, got {len(chunks)}"
                )
            outcomes: list[_Outcome] = [self._outcome(policy, chunk) for chunk in chunks]
            return outcomes, time.perf_counter() - started_s
        # The edge of somebody else's code, sys.exit() included: record, fail the one, go on.
        except BaseException as error:
            pass_s = time.perf_counter() - started_s
            if len(requests) == 1:
                if isinstance(error, ContractError):
                    # An observation that the policy cannot plan for: the fault of who sent it.
                    return [error], pass_s
                logger.error("the policy failed", exc_info=error)
                # NaN, or a rotation that is none: what it computed could not become an action.
                is_invalid = isinstance(error, InvalidValueError)
                kind = InvalidPlanError if is_invalid else PolicyFailedError
                return [kind(f"the policy failed: {_one_line(error)}")], pass_s
            logger.warning(
                "a batch of %d failed (%s); planning for each episode alone",
                len(requests),
                _one_line(error),
            )
            outcomes = []
            for request in requests:
                (outcome,), alone_s = self._outcomes(policy, [request])
                outcomes.append(outcome)
                pass_s = max(pass_s, alone_s)
            return outcomes, pass_s

    def _outcome(
        self, policy: Policy, chunk: Sequence[Action]
    ) -> Sequence[Action] | PolicyFailedError:
        defect = self._defect(policy, chunk)
        if defect is None:
            return tuple(chunk[: policy.chunk_length])
        logger.error("the policy planned an invalid chunk: %s", defect)
        return InvalidPlanError(f"the policy planned an invalid chunk: {defect}")

    def _defect(self, policy: Policy, chunk: Sequence[Action]) -> str | None:
        if not isinstance(chunk, Sequence):
            return f"expected a sequence of actions, got {chunk!r:.80}"
        if len(chunk) < self._min_actions:
            return f"expected at least {self._min_actions} actions, got {len(chunk)}"
        for index, action in enumerate(chunk[: policy.chunk_length]):
            # An Action is finite and its rotations are rotations: it cannot be made otherwise.
            if not isinstance(action, Action):
                return f"action {index}: expected an Action, got {action!r:.80}"
            violations = action_violations(policy.contract, action)
            if violations:
                return f"action {index}: {'; '.join(violations)}"
        return None


def _chunks(policy: Policy, requests: Sequence[PlanRequest]) -> Sequence[Sequence[Action]]:
    histories = [request.history for request in requests]
    noise = _Noise([request.seed for request in requests])
    guidance = [request.guidance for request in requests]
    if any(each is not None for each in guidance):
        guided: GuidedPolicy = policy  # pyright: ignore[reportAssignmentType]
        return guided.plan_guided(histories, noise, guidance)
    return policy.plan(histories, noise)


class _Noise(Sequence[np.random.Generator]):
    """The generators of a batch, made when they are asked for: not every policy asks, and making
    one takes longer than many a plan of a scripted policy."""

    def __init__(self, seeds: Sequence[tuple[int, ...]]) -> None:
        self._seeds = seeds
        self._made: dict[int, np.random.Generator] = {}

    def __len__(self) -> int:
        return len(self._seeds)

    @overload
    def __getitem__(self, index: int) -> np.random.Generator: ...

    @overload
    def __getitem__(self, index: slice) -> Sequence[np.random.Generator]: ...

    def __getitem__(
        self, index: int | slice
    ) -> np.random.Generator | Sequence[np.random.Generator]:
        if isinstance(index, slice):
            return [self[each] for each in range(*index.indices(len(self)))]
        seed = self._seeds[index]
        index %= len(self)
        if index not in self._made:
            self._made[index] = np.random.default_rng(seed)
        return self._made[index]


def _fail(job: _Job, error: PolicyFailedError | ContractError | DeadlineError) -> None:
    if not job.answer.done():
        job.answer.set_exception(error)


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
