"""Plans for several episodes in one forward pass, without a timer.

While a forward pass runs in the worker thread, requests queue; when it ends, all that wait, up
to the largest batch, make the next one, first come first served. A lone request starts at once.
"""

from __future__ import annotations

import asyncio
import copy
import logging
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass

import numpy as np

from policy_interface.contract import action_violations
from policy_interface.types import Action, Observation
from policy_server.policy import Policy
from policy_server.sessions import Plan

logger = logging.getLogger(__name__)


class PolicyFailedError(RuntimeError):
    """A policy that raised, or that planned something that must not reach a robot."""


@dataclass(frozen=True, kw_only=True, eq=False)
class _Request:
    history: Sequence[Observation]
    generator: np.random.Generator
    answer: asyncio.Future[Plan]


class Batcher:
    """The queue before one policy. For one event loop; every method runs on it."""

    def __init__(
        self,
        policy: Policy,
        *,
        open_loop_steps: int,
        max_batch_size: int,
        worker: Executor,
        on_batch: Callable[[int, float], None],
    ) -> None:
        """worker: one thread, where the policy runs. on_batch: told each batch's size and seconds.

        Plans hold exactly open_loop_steps actions: what comes after is never executed.
        """
        self._policy = policy
        self._open_loop_steps = open_loop_steps
        self._max_batch_size = max_batch_size
        self._worker = worker
        self._on_batch = on_batch
        self._waiting: deque[_Request] = deque()
        self._dispatcher: asyncio.Task[None] | None = None

    @property
    def num_waiting(self) -> int:
        """Requests that no forward pass has taken yet."""
        return len(self._waiting)

    async def wait_until_idle(self) -> None:
        """Return when no forward pass runs and none waits."""
        if self._dispatcher is not None:
            await asyncio.wait([self._dispatcher])

    async def plan(self, history: Sequence[Observation], generator: np.random.Generator) -> Plan:
        """A chunk for one episode. The generator is left as it was; the plan has its successor.

        Raises PolicyFailedError for this request alone, whatever becomes of its batch mates.
        """
        loop = asyncio.get_running_loop()
        request = _Request(history=history, generator=generator, answer=loop.create_future())
        self._waiting.append(request)
        if self._dispatcher is None:
            self._dispatcher = loop.create_task(self._dispatch())
        try:
            return await request.answer
        except asyncio.CancelledError:
            # Nobody waits for the answer any more: don't spend a place in a batch on it.
            if request in self._waiting:
                self._waiting.remove(request)
            raise

    async def _dispatch(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            while self._waiting:
                size = min(len(self._waiting), self._max_batch_size)
                batch = [self._waiting.popleft() for _ in range(size)]
                started_s = time.perf_counter()
                outcomes = await loop.run_in_executor(self._worker, self._outcomes, batch)
                self._on_batch(size, time.perf_counter() - started_s)
                for request, outcome in zip(batch, outcomes, strict=True):
                    if request.answer.done():  # cancelled while it was computed
                        continue
                    if isinstance(outcome, Plan):
                        request.answer.set_result(outcome)
                    else:
                        request.answer.set_exception(outcome)
        finally:
            self._dispatcher = None

    def _outcomes(self, batch: Sequence[_Request]) -> list[Plan | PolicyFailedError]:
        """One for each request. Runs in the worker thread and raises nothing."""
        # Copies, so that a request whose batch fails begins anew with the same noise.
        generators = [copy.deepcopy(request.generator) for request in batch]
        try:
            chunks = self._policy.plan([request.history for request in batch], generators)
            if len(chunks) != len(batch):
                raise PolicyFailedError(
                    f"expected a chunk for each of {len(batch)} episodes, got {len(chunks)}"
                )
        # The edge of somebody else's code, sys.exit() included: record, fail the one, go on.
        except BaseException as error:
            if len(batch) == 1:
                logger.error("the policy failed", exc_info=error)
                return [PolicyFailedError(f"the policy failed: {_one_line(error)}")]
            logger.warning(
                "a batch of %d failed (%s); planning for each episode alone",
                len(batch),
                _one_line(error),
            )
            return [outcome for request in batch for outcome in self._outcomes([request])]
        return [
            self._outcome(chunk, generator)
            for chunk, generator in zip(chunks, generators, strict=True)
        ]

    def _outcome(
        self, chunk: Sequence[Action], generator: np.random.Generator
    ) -> Plan | PolicyFailedError:
        defect = self._defect(chunk)
        if defect is None:
            return Plan(chunk=tuple(chunk[: self._open_loop_steps]), generator=generator)
        logger.error("the policy planned an invalid chunk: %s", defect)
        return PolicyFailedError(f"the policy planned an invalid chunk: {defect}")

    def _defect(self, chunk: Sequence[Action]) -> str | None:
        if not isinstance(chunk, Sequence):
            return f"expected a sequence of actions, got {chunk!r:.80}"
        if len(chunk) < self._open_loop_steps:
            return f"expected at least {self._open_loop_steps} actions, got {len(chunk)}"
        for index, action in enumerate(chunk[: self._open_loop_steps]):
            # An Action is finite and its rotations are rotations: it cannot be made otherwise.
            if not isinstance(action, Action):
                return f"action {index}: expected an Action, got {action!r:.80}"
            violations = action_violations(self._policy.contract, action)
            if violations:
                return f"action {index}: {'; '.join(violations)}"
        return None


def _one_line(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return f"{type(error).__name__}: {text}" if text else type(error).__name__
