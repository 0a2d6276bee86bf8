"""How many simulators, and batches of what size: by throughput, and by what an episode costs."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from sim_client.capacity.throughput import Server, Throughput, Workload, throughput

# Without prices, as few simulators as reach this share of what the largest farm does.
_ENOUGH = 0.9
# A larger batch must give more than the simulation's own noise to be preferred.
_BETTER = 1.01
# Where batches are on average so far from full, larger ones would be as they are.
_SELDOM_FULL = 0.6
_PAST_SATURATION = 2.0
_MOST_SIMULATORS = 4096
_PLANS_PER_SIMULATOR = 20
_MIN_PLANS = 2000


@dataclass(frozen=True, kw_only=True)
class Prices:
    """An hour of a CPU core and of a server's GPU, in any currency; None where unknown."""

    cpu_hour: float | None = None
    gpu_hour: float | None = None
    cores_per_simulator: float = 1.0
    server_cores: float = 1.0

    @property
    def are_known(self) -> bool:
        return self.cpu_hour is not None or self.gpu_hour is not None

    def per_hour(self, num_simulators: int) -> float:
        """Of one server with so many simulators."""
        cores = num_simulators * self.cores_per_simulator + self.server_cores
        return cores * (self.cpu_hour or 0.0) + (self.gpu_hour or 0.0)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A number of simulators with the batch size that suits it. cost: of an episode."""

    throughput: Throughput
    cost: float | None

    @property
    def num_simulators(self) -> int:
        return self.throughput.num_simulators


@dataclass(frozen=True, kw_only=True)
class Farm:
    """Choices by number of simulators, the right one among them, and where the server saturates.

    saturation: the number of simulators at which the two bounds meet: below it each has a server
    almost to itself, above it they queue (the knee of operational analysis).
    """

    choices: Sequence[Choice]
    right: Choice
    saturation: float
    most_episodes_per_hour: float


def farm(
    workload: Workload,
    server: Server,
    prices: Prices,
    *,
    max_simulators: int | None,
    batch_sizes: Sequence[int],
) -> Farm:
    """Try numbers of simulators on one server, each with the batch sizes given.

    max_simulators: as many as there are cores for; None for no limit.
    """
    largest = replace(server, max_batch_size=max(batch_sizes))
    most_plans_per_s = largest.most_plans_per_s(workload)
    saturation = most_plans_per_s * _alone_s(workload, largest)
    most = min(max_simulators or _MOST_SIMULATORS, math.ceil(_PAST_SATURATION * saturation) + 1)
    most = min(most, _MOST_SIMULATORS)

    def choice(num_simulators: int) -> Choice:
        best = _best(num_simulators, workload, server, batch_sizes)
        hourly = prices.per_hour(num_simulators)
        return Choice(
            throughput=best,
            cost=hourly / best.episodes_per_hour if prices.are_known else None,
        )

    choices = {number: choice(number) for number in _numbers(most)}
    # Between the neighbours of the coarse search's best.
    tried = sorted(choices)
    at = tried.index(_right(list(choices.values())).num_simulators)
    low, high = tried[max(at - 1, 0)], tried[min(at + 1, len(tried) - 1)]
    step = max((high - low) // 8, 1)
    finer = {number: choice(number) for number in range(low, high, step) if number not in choices}
    right = _right([(choices | finer)[number] for number in sorted(choices | finer)])
    choices[right.num_simulators] = right
    return Farm(
        choices=[choices[number] for number in sorted(choices)],
        right=right,
        saturation=saturation,
        most_episodes_per_hour=3600.0 * most_plans_per_s / workload.plans_per_episode,
    )


def _alone_s(workload: Workload, server: Server) -> float:
    """From one plan to the next of a simulator that has the server to itself."""
    loop_s = server.step_s * workload.steps_per_plan
    return workload.think_s + loop_s + server.pass_time.seconds(1)


def _best(
    num_simulators: int, workload: Workload, server: Server, batch_sizes: Sequence[int]
) -> Throughput:
    best: Throughput | None = None
    for size in sorted(batch_sizes):
        found = throughput(
            num_simulators,
            workload,
            replace(server, max_batch_size=size),
            num_plans=max(_MIN_PLANS, _PLANS_PER_SIMULATOR * num_simulators),
        )
        if best is None or found.plans_per_s > _BETTER * best.plans_per_s:
            best = found
        if size >= num_simulators or found.mean_batch_size < _SELDOM_FULL * size:
            break
    assert best is not None
    return best


def _right(choices: Sequence[Choice]) -> Choice:
    if choices[0].cost is not None:
        return min(choices, key=lambda choice: choice.cost or 0.0)
    most = max(choice.throughput.episodes_per_hour for choice in choices)
    enough = (c for c in choices if c.throughput.episodes_per_hour >= _ENOUGH * most)
    return min(enough, key=lambda choice: choice.num_simulators)


def _numbers(most: int) -> Iterator[int]:
    """1, 2, 3, 4, 6, 8, 12, 16, ... and the last."""
    number = 1
    while number < most:
        yield number
        if number & (number - 1) == 0 and number > 1 and number * 3 // 2 < most:
            yield number * 3 // 2
        number *= 2
    yield most
