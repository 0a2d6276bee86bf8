"""What happens in an episode, whatever call it came by: begun, a step at a time, ended."""

from __future__ import annotations

import asyncio
import logging
import os
import time
import uuid
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Executor
from typing import Any

import numpy.typing as npt

from policy_interface.codec import (
    ImageKey,
    compressed_images,
    decode_observation,
    encode_action,
    fill_action,
    require_few_cameras,
)
from policy_interface.contract import Contract, ContractError, differences, violations
from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import decode_image
from policy_interface.shared_work import shared
from policy_interface.types import Observation
from policy_server.batching import Plan, PlanRequest
from policy_server.deployments import Deployment
from policy_server.metrics import EndReason, ServerMetrics
from policy_server.observation_messages import check_images, message_violations, require_room
from policy_server.refusals import StationMismatchError
from policy_server.sessions import (
    ControlStepError,
    Session,
    SessionBusyError,
    SessionTable,
)

logger = logging.getLogger(__name__)

# How a client's longest time to think between an answer and its next step is forgotten.
_THINK_FORGETTING = 0.8

# Seven years at 10 Hz. What the wire tells of a step and of those after it has 32 bits.
_MAX_CONTROL_STEP = 2**31

# From so many on, the images of one observation are decoded by several threads.
_MANY_PIXELS = 150_000
_MAX_THREADS = 4
_NUM_HELPERS = min(_MAX_THREADS, os.cpu_count() or 1) - 1


class Episode:
    """A session, the deployment that serves it to its end, and who has it."""

    def __init__(
        self, *, identifier: uuid.UUID, client: Hashable, deployment: Deployment, seed: int
    ) -> None:
        """client: who takes turns with the others."""
        self.identifier = identifier
        self.client = client
        self.deployment = deployment
        self.session = Session(
            seed=seed,
            execution=deployment.execution,
            num_observations=deployment.num_observations,
        )
        self.last_answer: tuple[int, bytes] | None = None
        self.on_close: Callable[[], None] | None = None
        self._answered_s: float | None = None
        self._think_s: float | None = None
        deployment.acquire()

    @property
    def is_stepping(self) -> bool:
        return self.session.is_stepping

    def note_arrival(self) -> None:
        """A step came: the client took so long to think."""
        if self._answered_s is not None:
            think_s = time.monotonic() - self._answered_s
            self._think_s = max(think_s, _THINK_FORGETTING * (self._think_s or 0.0))

    def note_answer(self) -> None:
        """A step was answered. If the next one needs a plan, the batcher may wait for it."""
        self._answered_s = time.monotonic()
        if self._think_s is not None and self.session.is_plan_due:
            self.deployment.batcher.expect(self, self._think_s)

    async def make_plan(self, request: PlanRequest, timeout_s: float | None) -> Plan:
        return await self.deployment.batcher.plan(
            request, session=self, client=self.client, timeout_s=timeout_s
        )

    def close(self) -> None:
        self.session.close()
        self.deployment.batcher.forget(self)
        self.deployment.release()
        if self.on_close is not None:
            self.on_close()


class Episodes:
    """Every episode of a server. Everything here runs on one event loop."""

    def __init__(
        self,
        *,
        max_sessions: int,
        idle_s: float,
        metrics: ServerMetrics,
        decoders: Executor,
    ) -> None:
        """decoders: threads where compressed images are decoded, off the event loop."""
        self._table: SessionTable[Episode] = SessionTable(
            max_sessions=max_sessions, idle_s=idle_s, on_end=self._ended
        )
        self._metrics = metrics
        self._decoders = decoders
        self._num_decoding = 0
        self._last_decoded: uuid.UUID | None = None
        self._sweeper: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._table)

    def begin(
        self,
        *,
        identifier: uuid.UUID,
        client: Hashable,
        deployment: Deployment,
        seed: int,
        station_contract: str,
    ) -> Episode:
        """Raises StationMismatchError, ContractError and TooManySessionsError."""
        found = station_differences(deployment.contract, station_contract)
        if found:
            raise StationMismatchError(
                f"the station does not fit the policy {deployment.name!r}: {'; '.join(found)}"
            )
        episode = Episode(identifier=identifier, client=client, deployment=deployment, seed=seed)
        try:
            self._table.begin(identifier, episode)
        except BaseException:
            deployment.release()
            raise
        self._metrics.episode_begun()
        logger.info(
            "episode begun with policy %s, seed %d (%d sessions)",
            deployment.name,
            seed,
            len(self._table),
            extra={"session": str(identifier)},
        )
        if self._sweeper is None:
            self._sweep()
        return episode

    def find(self, identifier: uuid.UUID) -> Episode:
        """Raises UnknownSessionError."""
        return self._table.find(identifier)

    def peek(self, identifier: uuid.UUID) -> Episode | None:
        """As `find`, for nothing that keeps it from being idle."""
        return self._table.peek(identifier)

    def end(self, identifier: uuid.UUID, *, reason: EndReason = "ended") -> bool:
        return self._table.end(identifier, reason=reason)

    def end_all(self) -> None:
        """The server stops."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        self._table.end_all()

    async def step(
        self,
        episode: Episode,
        message: PolicyStep_pb2.MultiarmObservation,
        *,
        pixels: Mapping[ImageKey, npt.NDArray[Any]],
        wants_chunk: bool = False,
        control_step: int | None = None,
        timeout_s: float | None = None,
    ) -> bytes:
        """The answer to one control step: a serialized PolicyStepResponse.

        pixels: of the images that need no decoding, as far as they were found already.
        control_step: what the client takes it to be, if it says. timeout_s: until its deadline.
        """
        started_s = time.perf_counter()
        session = episode.session
        with session.stepping():
            if control_step is not None and control_step != session.control_step:
                repeated = self._caught_up(episode, control_step, wants_chunk=wants_chunk)
                if repeated is not None:
                    return repeated
            episode.note_arrival()
            observation = await self._seen(episode, message, pixels)
            decoded_s = time.perf_counter() - started_s
            plan = await self._plan(episode, observation, wants_chunk, timeout_s)
            encoding_s = time.perf_counter()
            step = session.control_step
            action = session.advance(observation)
            response = PolicyStep_pb2.PolicyStepResponse(success=True)
            fill_action(response.action, action)
            if wants_chunk:
                response.chunk.CopyFrom(_chunk_message(episode, step, decoded_s, plan))
            data = response.SerializeToString()
            episode.last_answer = (step, data)
            episode.note_answer()
        now_s = time.perf_counter()
        # Counted when the answer is on its way.
        asyncio.get_running_loop().call_soon(
            self._count, decoded_s, plan, now_s - encoding_s, now_s - started_s
        )
        return data

    def _count(self, decoded_s: float, plan: Plan | None, encoded_s: float, total_s: float) -> None:
        metrics = self._metrics
        metrics.observe_phase("decode", decoded_s)
        if plan is not None:
            metrics.observe_phase("queue", plan.queue_s)
            metrics.observe_phase("inference", plan.inference_s)
        metrics.observe_phase("encode", encoded_s)
        metrics.observe_phase("total", total_s)
        metrics.step_answered(plan is not None, total_s)

    def _caught_up(self, episode: Episode, control_step: int, *, wants_chunk: bool) -> bytes | None:
        """The former answer where the step is a repeated one. Raises ControlStepError."""
        session = episode.session
        if episode.last_answer is not None and control_step == episode.last_answer[0]:
            return episode.last_answer[1]
        if control_step > _MAX_CONTROL_STEP:
            raise ControlStepError(
                f"control_step: expected at most {_MAX_CONTROL_STEP}, got {control_step}"
            )
        if wants_chunk and control_step > session.control_step:
            session.skip_to(control_step)
            return None
        raise ControlStepError(
            f"control_step: expected {session.control_step}, the episode's next one, got "
            f"{control_step}; only a client that asks for chunks may go on by itself, and only "
            "the latest answer can be had again"
        )

    async def _seen(
        self,
        episode: Episode,
        message: PolicyStep_pb2.MultiarmObservation,
        pixels: Mapping[ImageKey, npt.NDArray[Any]],
    ) -> Observation | None:
        """The observation, or None where no plan looks at it; it is checked in any case."""
        contract = episode.deployment.contract
        if not episode.session.needs_observation:
            check_images(message, pixels)
            _require_none(message_violations(contract, message))
            return None
        require_few_cameras(message)
        compressed = list(compressed_images(message))
        if compressed:
            require_room(compressed)
            pixels = {**pixels, **await self._decompressed(episode, compressed)}
        observation = decode_observation(message, pixels)
        _require_none(violations(contract, observation))
        return observation

    async def _decompressed(
        self, episode: Episode, images: Sequence[tuple[ImageKey, PolicyStep_pb2.Image]]
    ) -> dict[ImageKey, npt.NDArray[Any]]:
        """Off the event loop; many pixels by several threads, while no other episode is stepped.

        Several episodes keep the cores busy by themselves, and sharing costs a tenth more.
        """
        num_pixels = sum(image.height * image.width for _, image in images)
        is_alone = self._num_decoding == 0 and self._last_decoded == episode.identifier
        self._last_decoded = episode.identifier
        num_helpers = _NUM_HELPERS if is_alone and num_pixels >= _MANY_PIXELS else 0

        def decoded() -> dict[ImageKey, npt.NDArray[Any]]:
            return dict(shared(_decoded, images, helpers=self._decoders, num_helpers=num_helpers))

        self._num_decoding += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(self._decoders, decoded)
        finally:
            self._num_decoding -= 1

    async def _plan(
        self,
        episode: Episode,
        observation: Observation | None,
        wants_chunk: bool,
        timeout_s: float | None,
    ) -> Plan | None:
        """See to it that the session has an action for this step. The plan that it waited for."""
        session = episode.session
        plan: Plan | None = None
        # It may have ended while its images were decoded, and its policy with it.
        self._require_current(episode)
        if session.must_wait(for_chunk=wants_chunk):
            plan = await self._commit_earlier_plan(episode, timeout_s)
        if session.is_plan_due:
            assert observation is not None
            pending = session.begin_plan(observation, episode.make_plan)
            if not session.must_wait(for_chunk=wants_chunk):
                pending.begin()
                return plan
            try:
                plan = await pending.result(timeout_s)
                self._require_current(episode)
            except BaseException:
                session.drop_plan()
                raise
            session.commit_plan(plan)
        return plan

    async def _commit_earlier_plan(self, episode: Episode, timeout_s: float | None) -> Plan | None:
        """The plan that was begun at an earlier step takes effect. It, where this step waited."""
        pending = episode.session.pending
        assert pending is not None
        is_late = not pending.is_made
        if is_late:
            self._metrics.plan_was_late()
        plan = await pending.result(timeout_s)
        self._require_current(episode)
        episode.session.commit_plan(plan)
        return plan if is_late else None

    def _require_current(self, episode: Episode) -> None:
        if not self._table.is_current(episode.identifier, episode):
            raise SessionBusyError("the episode ended while this step was being answered")

    def _ended(self, identifier: uuid.UUID, episode: Episode, reason: EndReason) -> None:
        self._metrics.episode_ended(reason)
        logger.info(
            "episode %s after %d control steps",
            reason,
            episode.session.control_step,
            extra={"session": str(identifier)},
        )

    def _sweep(self) -> None:
        """Forget idle episodes, and come back when the next one may be idle."""
        self._sweeper = None
        again_in_s = self._table.forget_idle()
        if again_in_s is not None:
            loop = asyncio.get_running_loop()
            self._sweeper = loop.call_later(max(again_in_s, 1.0), self._sweep)


def _decoded(
    named: tuple[ImageKey, PolicyStep_pb2.Image],
) -> tuple[ImageKey, npt.NDArray[Any]]:
    key, image = named
    return key, decode_image(image, str(key))


def station_differences(policy: Contract, station_contract: str) -> list[str]:
    """What the station does not give; empty where it fits, or says nothing of itself.

    Raises ContractError for text that is no contract.
    """
    if not station_contract:
        return []
    return differences(policy=policy, station=Contract.from_json(station_contract))


def _chunk_message(
    episode: Episode, step: int, decoded_s: float, plan: Plan | None
) -> PolicyStep_pb2.ActionChunk:
    session = episode.session
    return PolicyStep_pb2.ActionChunk(
        actions=[encode_action(action) for action in session.remaining_chunk()],
        first_control_step=step,
        planned_from_step=session.planned_from,
        next_plan_step=session.next_plan_step,
        control_rate_hz=episode.deployment.contract.control_rate_hz,
        decoding_s=decoded_s,
        queue_s=plan.queue_s if plan is not None else 0.0,
        inference_s=plan.inference_s if plan is not None else 0.0,
    )


def _require_none(violations: list[str]) -> None:
    if violations:
        raise ContractError("; ".join(violations))
