"""The clients of one process: all of them on one event loop, each with a connection of its own.

Requests are bytes before the clock starts, so a step costs the loop little more than gRPC itself,
and one process keeps two cores' worth of server busy; more processes only take its cores away.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

import numpy as np

from policy_interface.types import Observation
from policy_server.bench.episodes import Episode, StepError, make_episode
from policy_server.bench.load import Load, LoadError
from policy_server.bench.measurement import Measurement
from policy_server.bench.scene import scene_observations

# Different images from step to step, and few enough to be in memory for every client.
_NUM_OBSERVATIONS = 4
_NUM_WARM_UP_STEPS = 10

# In an open loop, how many requests of one client may be under way. Each needs an episode of its
# own, since a server answers one step of an episode at a time.
_MAX_IN_FLIGHT = 4

# A server that refuses everything is not worth refusing until the time is over.
_MAX_ERRORS_IN_A_ROW = 1000


async def run_clients(
    load: Load, clients: Sequence[int], wait_for_others: Callable[[], None] = lambda: None
) -> Measurement:
    """Measure these of the load's clients.

    wait_for_others: blocks until other processes' clients are ready as well. Raises LoadError where
    an episode cannot even begin.
    """
    observations = scene_observations(
        num_cameras=load.num_cameras, size=load.size, num_steps=_NUM_OBSERVATIONS
    )
    gate = _Gate(len(clients), wait_for_others)
    run = _run_closed if load.rate_hz is None else _run_open
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(run(load, client, observations, gate)) for client in clients]
    return Measurement.of([task.result() for task in tasks])


class _Gate:
    """Opens when every client of this process, and of the others, is ready to be measured."""

    def __init__(self, num_clients: int, wait_for_others: Callable[[], None]) -> None:
        self._num_missing = num_clients
        self._wait_for_others = wait_for_others
        self._open = asyncio.Event()
        self.started_s = 0.0
        self.started_busy_s = 0.0

    async def wait(self) -> None:
        self._num_missing -= 1
        if self._num_missing == 0:
            await asyncio.to_thread(self._wait_for_others)
            self.started_s = time.perf_counter()
            self.started_busy_s = time.thread_time()
            self._open.set()
        await self._open.wait()


class _Record:
    """What becomes a Measurement."""

    def __init__(self, gate: _Gate) -> None:
        self._gate = gate
        self._latencies_s: list[float] = []
        self._control_steps: list[int] = []
        self._errors: Counter[str] = Counter()
        self._num_errors_in_a_row = 0
        self._sent_bytes = 0
        self._received_bytes = 0

    def answered(self, latency_s: float, control_step: int, sizes: tuple[int, int]) -> None:
        self._num_errors_in_a_row = 0
        self._latencies_s.append(latency_s)
        self._control_steps.append(control_step)
        self._sent_bytes += sizes[0]
        self._received_bytes += sizes[1]

    def failed(self, error: StepError) -> bool:
        """Whether to go on."""
        self._errors[error.status] += 1
        self._num_errors_in_a_row += 1
        return self._num_errors_in_a_row < _MAX_ERRORS_IN_A_ROW

    def measurement(self, seconds: float) -> Measurement:
        now_s = time.perf_counter()
        busy_s = time.thread_time() - self._gate.started_busy_s
        return Measurement(
            seconds=seconds,
            latencies_s=np.array(self._latencies_s, dtype=np.float64),
            control_steps=np.array(self._control_steps, dtype=np.int64),
            errors=self._errors,
            sent_bytes=self._sent_bytes,
            received_bytes=self._received_bytes,
            generator_busy=busy_s / (now_s - self._gate.started_s),
        )


async def _run_closed(
    load: Load, client: int, observations: Sequence[Observation], gate: _Gate
) -> Measurement:
    """One step after the other."""
    async with _warm_episode(load, client, observations) as episode:
        await gate.wait()
        record = _Record(gate)
        end_s = gate.started_s + load.seconds
        control_step = _NUM_WARM_UP_STEPS
        sent_s = time.perf_counter()
        while sent_s < end_s:
            try:
                sizes = await episode.step(control_step)
            except StepError as error:
                if not record.failed(error):
                    break
                if load.streams:
                    await _begin_again(episode, client)
                    control_step = 0
                sent_s = time.perf_counter()
                continue
            now_s = time.perf_counter()
            if now_s <= end_s:
                record.answered(now_s - sent_s, control_step, sizes)
            control_step += 1
            sent_s = now_s
        return record.measurement(load.seconds)


async def _run_open(
    load: Load, client: int, observations: Sequence[Observation], gate: _Gate
) -> Measurement:
    """Each step when it is due. Clients are out of step with one another, evenly."""
    assert load.rate_hz is not None
    async with contextlib.AsyncExitStack() as stack:
        free: asyncio.Queue[tuple[Episode, int]] = asyncio.Queue()
        for index in range(_MAX_IN_FLIGHT):
            warm = _warm_episode(load, client * _MAX_IN_FLIGHT + index, observations)
            free.put_nowait((await stack.enter_async_context(warm), _NUM_WARM_UP_STEPS))
        await gate.wait()
        record = _Record(gate)

        async def step(episode: Episode, control_step: int, due_s: float) -> None:
            try:
                sizes = await episode.step(control_step)
            except StepError as error:
                record.failed(error)
                if load.streams:
                    await _begin_again(episode, client)
                    control_step = -1
            else:
                record.answered(time.perf_counter() - due_s, control_step, sizes)
            free.put_nowait((episode, control_step + 1))

        async with asyncio.TaskGroup() as group:
            for number in range(round(load.rate_hz * load.seconds)):
                due_s = gate.started_s + (number + client / load.num_clients) / load.rate_hz
                await asyncio.sleep(due_s - time.perf_counter())
                # Where none is free the request leaves late, and its latency counts from when it
                # was due all the same.
                episode, control_step = await free.get()
                group.create_task(step(episode, control_step, due_s))
        # Until the last answer, or an overloaded server would seem to have kept up.
        return record.measurement(max(load.seconds, time.perf_counter() - gate.started_s))


@contextlib.asynccontextmanager
async def _warm_episode(
    load: Load, seed: int, observations: Sequence[Observation]
) -> AsyncIterator[Episode]:
    """An episode with its first steps behind it. Raises LoadError where these fail."""
    episode = make_episode(load, observations)
    try:
        try:
            await episode.begin(seed)
            for index in range(_NUM_WARM_UP_STEPS):
                await episode.step(index)
        except StepError as error:
            raise LoadError(f"{load.address} does not take this load: {error}") from error
        yield episode
        await _quietly(episode.end())
    finally:
        await episode.close()


async def _begin_again(episode: Episode, seed: int) -> None:
    """A stream that failed is over, and so is its episode."""
    await _quietly(episode.begin(seed))


async def _quietly(call: Awaitable[None]) -> None:
    with contextlib.suppress(StepError):
        await call
