"""Simulators and a policy server as a closed queueing network, simulated event by event.

A simulator works for a while (it thinks, in the words of queueing theory), asks for a plan, waits,
and works again: the machine repairman's problem, with a repairman who takes several machines at
once. Mean value analysis is exact for product-form networks, which a server that plans for a batch
in one pass is not (its service time depends on how many wait), and neither is one that holds a
batch back for those who are about to come. So the network is simulated, with a fixed seed, and
checked against what is exact: Takács's formula (1962) for batches of 1 and exponential times to
think, and the bounds of operational analysis (Denning and Buzen 1978), which any network keeps.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sim_client.capacity.pass_time import PassTime

_SEED = 20261127
# Of the plans of a run, left out until the simulators have spread out.
_WARM_UP = 0.2
_DRAWS_AT_ONCE = 1024
# The server's own rule: see policy_server.batching.
_THINK_MARGIN, _THINK_SLACK_S = 1.5, 0.003


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What a simulator does from one plan to the next.

    think_s: of its own, the round trips of steps that need no plan among it. think_cv: the
    standard deviation of that over its mean. steps_per_plan: control steps, of which one waits for
    the plan. plans_per_episode: on average.
    """

    think_s: float
    think_cv: float
    steps_per_plan: float
    plans_per_episode: float


@dataclass(frozen=True, kw_only=True)
class Server:
    """A policy server: `replicas` passes at once, each over up to `max_batch_size` requests.

    step_s: its own work on a control step, one step after another (the event loop). max_wait_s:
    how long a batch may be held back for those who are about to come.
    """

    pass_time: PassTime
    max_batch_size: int
    replicas: int = 1
    step_s: float = 0.0
    max_wait_s: float = 0.05

    def most_plans_per_s(self, workload: Workload) -> float:
        """What no number of simulators exceeds."""
        sizes = range(1, self.max_batch_size + 1)
        by_passes = max(self.replicas * size / self.pass_time.seconds(size) for size in sizes)
        loop_s = self.step_s * workload.steps_per_plan
        return min(by_passes, 1.0 / loop_s) if loop_s else by_passes


@dataclass(frozen=True, kw_only=True)
class Throughput:
    """What a number of simulators gets from a server.

    wait_s: from the server's first sight of a request until its plan is there, on average.
    server_busy: the share of time that a replica is in a pass. mean_batch_size: over the passes.
    """

    num_simulators: int
    max_batch_size: int
    plans_per_s: float
    episodes_per_hour: float
    wait_s: float
    server_busy: float
    mean_batch_size: float


def throughput(
    num_simulators: int, workload: Workload, server: Server, *, num_plans: int = 4000
) -> Throughput:
    """Simulate until `num_plans` plans are made; the same numbers every time."""
    times = gamma_times(workload.think_s, workload.think_cv, _SEED)
    return _Network(num_simulators, workload, server, think_s=times).run(num_plans)


def gamma_times(mean_s: float, cv: float, seed: int) -> Callable[[], float]:
    """Draws of a gamma distribution; of the mean alone where cv is 0."""
    if cv == 0.0:
        return lambda: mean_s
    rng = np.random.default_rng(seed)
    shape = 1.0 / cv**2
    drawn: list[float] = []

    def draw() -> float:
        if not drawn:
            drawn.extend(rng.gamma(shape, mean_s / shape, _DRAWS_AT_ONCE).tolist())
        return drawn.pop()

    return draw


@dataclass
class _Totals:
    since_s: float = 0.0
    plans: int = 0
    passes: int = 0
    wait_s: float = 0.0
    busy_s: float = 0.0


@dataclass
class _Network:
    """All simulators, the server's event loop, its queue and its replicas.

    Events are (when, number, what, of whom); the number keeps those of one moment in order.
    """

    num_simulators: int
    workload: Workload
    server: Server
    think_s: Callable[[], float]
    _events: list[tuple[float, int, Callable[[int], None], int]] = field(default_factory=list)
    _now_s: float = 0.0
    _loop_free_s: float = 0.0
    _number: int = 0
    _reached_s: dict[int, float] = field(default_factory=dict)
    _waiting: deque[tuple[int, float]] = field(default_factory=deque)
    _expected_until_s: dict[int, float] = field(default_factory=dict)
    _batches: dict[int, list[int]] = field(default_factory=dict)
    _num_running: int = 0
    _pass_s: float = 0.0
    _free_since_s: float = 0.0
    _next_look_s: float | None = None
    _totals: _Totals = field(default_factory=_Totals)

    def run(self, num_plans: int) -> Throughput:
        self._step_s = self.workload.think_s / self.workload.steps_per_plan
        for simulator in range(self.num_simulators):
            # Begun one after the other, not all at once.
            self._begin_thinking(simulator, self.think_s() * (simulator + 1) / self.num_simulators)
        num_warm_up = round(_WARM_UP * num_plans)
        is_warm = False
        while self._totals.plans < num_plans:
            self._now_s, _, handle, whom = heapq.heappop(self._events)
            handle(whom)
            if not is_warm and self._totals.plans >= num_warm_up:
                is_warm, num_plans = True, num_plans - self._totals.plans
                self._totals = _Totals(since_s=self._now_s)
        return self._throughput()

    def _throughput(self) -> Throughput:
        totals = self._totals
        seconds = self._now_s - totals.since_s
        plans_per_s = totals.plans / seconds
        return Throughput(
            num_simulators=self.num_simulators,
            max_batch_size=self.server.max_batch_size,
            plans_per_s=plans_per_s,
            episodes_per_hour=3600.0 * plans_per_s / self.workload.plans_per_episode,
            wait_s=totals.wait_s / totals.plans,
            server_busy=min(totals.busy_s / (seconds * self.server.replicas), 1.0),
            mean_batch_size=totals.plans / totals.passes,
        )

    def _at(self, when_s: float, handle: Callable[[int], None], whom: int) -> None:
        self._number += 1
        heapq.heappush(self._events, (when_s, self._number, handle, whom))

    def _begin_thinking(self, simulator: int, think_s: float) -> None:
        self._at(self._now_s + think_s, self._reach_server, simulator)
        # One that is slower than a pass, or than a batch may be held back, is not waited for.
        if self._pass_s and self._step_s <= self._most_wait_s():
            others = 1.0 - 1.0 / self.workload.steps_per_plan
            self._at(self._now_s + think_s * max(others, 0.0), self._expect, simulator)

    def _reach_server(self, simulator: int) -> None:
        """The event loop takes one after the other: the steps since the last plan, as one."""
        self._reached_s[simulator] = self._now_s
        begun_s = max(self._now_s, self._loop_free_s)
        self._loop_free_s = begun_s + self.server.step_s * self.workload.steps_per_plan
        self._at(self._loop_free_s, self._ask, simulator)

    def _expect(self, simulator: int) -> None:
        within_s = min(_THINK_MARGIN * self._step_s + _THINK_SLACK_S, self._most_wait_s())
        self._expected_until_s[simulator] = self._now_s + within_s

    def _ask(self, simulator: int) -> None:
        self._expected_until_s.pop(simulator, None)
        self._waiting.append((simulator, self._now_s))
        self._dispatch()

    def _look_again(self, whom: int) -> None:
        del whom
        self._next_look_s = None
        self._dispatch()

    def _dispatch(self) -> None:
        while self._waiting and len(self._batches) < self.server.replicas:
            due_s, share = self._due()
            if due_s > self._now_s:
                if self._next_look_s is None or self._next_look_s > due_s:
                    self._next_look_s = due_s
                    self._at(due_s, self._look_again, -1)
                return
            self._begin_pass(share)

    def _due(self) -> tuple[float, int]:
        """When the next batch goes, and how many it takes at most."""
        for simulator, until_s in list(self._expected_until_s.items()):
            if until_s <= self._now_s:
                del self._expected_until_s[simulator]
        num_sharing = len(self._waiting) + len(self._expected_until_s) + self._num_running
        share = min(self.server.max_batch_size, -(-num_sharing // self.server.replicas))
        if len(self._waiting) >= share:
            return self._now_s, share
        oldest_s = self._waiting[0][1]
        due_s = min(
            oldest_s + self.server.max_wait_s,
            max(oldest_s, self._free_since_s) + self._pass_s,
            max(self._expected_until_s.values(), default=self._now_s),
        )
        return due_s, share

    def _begin_pass(self, share: int) -> None:
        batch = [self._waiting.popleft()[0] for _ in range(min(share, len(self._waiting)))]
        self._num_running += len(batch)
        seconds = self.server.pass_time.seconds(len(batch))
        self._pass_s = seconds
        self._totals.busy_s += seconds
        self._batches[self._number + 1] = batch
        self._at(self._now_s + seconds, self._end_pass, self._number + 1)

    def _end_pass(self, number: int) -> None:
        batch = self._batches.pop(number)
        self._num_running -= len(batch)
        self._free_since_s = self._now_s
        self._totals.passes += 1
        for simulator in batch:
            self._totals.plans += 1
            self._totals.wait_s += self._now_s - self._reached_s[simulator]
            self._begin_thinking(simulator, self.think_s())
        # After those who got their plans have said whether they ask again soon.
        self._at(self._now_s, self._look_again, -1)

    def _most_wait_s(self) -> float:
        return min(self.server.max_wait_s, self._pass_s)
