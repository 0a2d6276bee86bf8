"""For tests of robots, simulators and of the server itself: policies that are told when to answer,
and a real server in a thread.

    with running_server(HoldPolicy()) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        action = client.step(observation)
"""

from __future__ import annotations

import asyncio
import functools
import queue
import threading
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from typing import Any, TypeVar

import numpy as np

from policy_interface.contract import Contract
from policy_interface.types import Action, ChunkGuidance, Observation, PolicyMetadata, Pose
from policy_server.event_loop import new_event_loop
from policy_server.policy import Policy
from policy_server.server import PolicyServer, ServerOptions

_T = TypeVar("_T")

# Far longer than anything awaited here takes; a test that hangs should say where.
_PATIENCE_S = 30.0


class NoisePolicy:
    """Commands where the arms were last commanded to be, plus noise from the episode's seed."""

    def __init__(
        self,
        *,
        chunk_length: int = 8,
        open_loop_steps: int | None = None,
        num_observations: int = 1,
        contract: Contract | None = None,
    ) -> None:
        self.chunk_length = chunk_length
        self.open_loop_steps = chunk_length if open_loop_steps is None else open_loop_steps
        self.num_observations = num_observations
        self.contract = Contract(cameras={}) if contract is None else contract
        self.metadata = PolicyMetadata(name="noise")

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        return [
            self._chunk(history[-1], generator)
            for history, generator in zip(histories, noise, strict=True)
        ]

    def _chunk(self, observation: Observation, generator: np.random.Generator) -> list[Action]:
        offsets_m = generator.normal(scale=0.01, size=(self.chunk_length, 3))
        return [
            Action(
                poses={
                    arm: Pose(rotation=pose.rotation, translation_m=pose.translation_m + offset_m)
                    for arm, pose in observation.desired.poses.items()
                },
                gripper_widths_m=observation.desired.gripper_widths_m,
            )
            for offset_m in offsets_m
        ]


class GuidedNoisePolicy(NoisePolicy):
    """NoisePolicy whose guided plans keep the frozen actions and remember what they were told."""

    def __init__(self, *, chunk_length: int = 8, open_loop_steps: int | None = None) -> None:
        super().__init__(chunk_length=chunk_length, open_loop_steps=open_loop_steps)
        self.guidance: list[ChunkGuidance | None] = []

    def plan_guided(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
        guidance: Sequence[ChunkGuidance | None],
    ) -> list[list[Action]]:
        self.guidance += guidance
        chunks = self.plan(histories, noise)
        for chunk, each in zip(chunks, guidance, strict=True):
            if each is not None:
                chunk[: each.num_frozen] = each.actions[: each.num_frozen]
        return chunks


class GatedPolicy:
    """Another policy whose every forward pass waits to be let go."""

    def __init__(self, inner: Policy) -> None:
        self._inner = inner
        self.contract = inner.contract
        self.metadata = inner.metadata
        self.chunk_length = inner.chunk_length
        self.open_loop_steps = inner.open_loop_steps
        self.num_observations = inner.num_observations
        self._entered: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._permits = threading.Semaphore(0)

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> Sequence[Sequence[Action]]:
        self._entered.put(len(histories))
        if not self._permits.acquire(timeout=_PATIENCE_S):
            raise TimeoutError("nobody let this forward pass go")
        return self._inner.plan(histories, noise)

    def next_batch_size(self) -> int:
        """Wait until a forward pass begins; how many episodes it plans for."""
        return self._entered.get(timeout=_PATIENCE_S)

    def let_go(self, num_passes: int = 1) -> None:
        """Let the forward pass that waits, or the next one that begins, go on."""
        self._permits.release(num_passes)


class RunningServer:
    """A PolicyServer on an event loop of its own, in a thread."""

    def __init__(self, options: ServerOptions) -> None:
        self._loop = new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._thread.start()
        self._server = self._finish(self._make(options))

    async def _make(self, options: ServerOptions) -> PolicyServer:
        return PolicyServer(options)

    @property
    def address(self) -> str:
        return self._server.address

    @property
    def server(self) -> PolicyServer:
        """To look at; its coroutines belong to its own loop."""
        return self._server

    def start(self) -> None:
        """Listen, with no policy yet."""
        self._finish(self._server.start())

    def load(
        self, build: Callable[[], Policy] | Mapping[str | None, Callable[[], Policy]]
    ) -> Future[None]:
        return self._begin(self._server.load(build))

    def reload(
        self, build: Callable[[], Policy] | Mapping[str, Callable[[], Policy]]
    ) -> Future[None]:
        return self._begin(self._server.reload(build))

    def drain(self, *, grace_s: float = _PATIENCE_S) -> Future[bool]:
        return self._begin(self._server.drain(grace_s=grace_s))

    def wait_until(self, condition: Callable[[PolicyServer], bool]) -> None:
        """Return when the condition, looked at on the server's loop, holds."""
        self._finish(self._wait_until(condition))

    async def _wait_until(self, condition: Callable[[PolicyServer], bool]) -> None:
        while not condition(self._server):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Drain and end the thread."""
        self.drain().result(_PATIENCE_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_PATIENCE_S)
        self._loop.close()

    def _begin(self, coroutine: Coroutine[Any, Any, _T]) -> Future[_T]:
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def _finish(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self._begin(coroutine).result(_PATIENCE_S)


def _same(policy: Policy) -> Policy:
    return policy


@contextmanager
def running_server(
    policy: Policy | Mapping[str, Policy], options: ServerOptions | None = None
) -> Iterator[RunningServer]:
    """A server that serves `policy`, or several by name, on a free port of loopback.

    Drained at the end.
    """
    running = RunningServer(options or ServerOptions(address="127.0.0.1:0"))
    running.start()
    try:
        policies = policy if isinstance(policy, Mapping) else {running.server.options.name: policy}
        builds = {name: functools.partial(_same, each) for name, each in policies.items()}
        running.load(builds).result(_PATIENCE_S)
        yield running
    finally:
        running.close()
