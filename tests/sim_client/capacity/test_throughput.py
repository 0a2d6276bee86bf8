"""The model of a farm against what is known exactly of it."""

from __future__ import annotations

import math

import pytest

from sim_client.capacity.pass_time import PassTime
from sim_client.capacity.throughput import Server, Workload, throughput

# Of 4000 simulated plans, the standard error of a rate is 1 to 2 %.
_NOISE = 0.04


def workload(think_s: float = 0.4, cv: float = 0.25, steps: float = 1.0) -> Workload:
    return Workload(think_s=think_s, think_cv=cv, steps_per_plan=steps, plans_per_episode=10.0)


def server(most: int = 1, passes: str = "1:100", **given: float) -> Server:
    return Server(pass_time=PassTime.parse(passes), max_batch_size=most, **given)  # type: ignore[arg-type]


def takacs_plans_per_s(number: int, think_s: float, pass_s: float) -> float:
    """Machine repair by one repairman, exponential times to fail and a constant time to repair:
    L. Takács, Introduction to the Theory of Queues (Oxford, 1962), chapter 5."""
    rate = 1.0 / think_s
    total = sum(
        math.comb(number - 1, n)
        * math.prod(math.exp(i * rate * pass_s) - 1.0 for i in range(1, n + 1))
        for n in range(number)
    )
    idle = 1.0 / (1.0 + number * rate * pass_s * total)
    return (1.0 - idle) / pass_s


@pytest.mark.parametrize("number", [1, 2, 4, 8])
def test_one_at_a_time_with_exponential_thinking_is_takacss_machine_repair(number: int) -> None:
    found = throughput(number, workload(cv=1.0), server())
    exact = takacs_plans_per_s(number, 0.4, 0.1)
    assert found.plans_per_s == pytest.approx(exact, rel=_NOISE)
    assert found.server_busy == pytest.approx(exact * 0.1, rel=_NOISE)
    assert found.mean_batch_size == 1.0
    # Little's law, for the simulators that are not thinking.
    assert number == pytest.approx(found.plans_per_s * (0.4 + found.wait_s), rel=_NOISE)


def test_alone_it_thinks_and_waits_in_turn() -> None:
    found = throughput(1, workload(cv=0.0, steps=8.0), server(step_s=0.005))
    assert found.plans_per_s == pytest.approx(1.0 / (0.4 + 8 * 0.005 + 0.1), rel=0.01)
    assert found.episodes_per_hour == pytest.approx(360.0 * found.plans_per_s)


@pytest.mark.parametrize(
    ("given", "steps", "limit"),
    [
        ({"most": 1}, 1.0, 10.0),
        ({"most": 8, "passes": "1:100,8:160"}, 1.0, 50.0),
        ({"most": 8, "passes": "1:100,8:160", "replicas": 2}, 1.0, 100.0),
        # Its event loop takes 8 steps of 10 ms a plan.
        ({"most": 8, "passes": "1:1", "step_s": 0.01}, 8.0, 12.5),
    ],
)
def test_many_get_what_the_server_can_give(given: dict, steps: float, limit: float) -> None:
    tried = server(**given)
    assert tried.most_plans_per_s(workload(steps=steps)) == pytest.approx(limit)
    found = throughput(100, workload(steps=steps), tried, num_plans=4000)
    assert found.plans_per_s == pytest.approx(limit, rel=_NOISE)


def test_a_batch_is_held_back_for_who_is_about_to_come() -> None:
    """Else those of one pace miss each other for ever: see policy_server.batch_queue."""
    held, never = (
        throughput(
            4, workload(think_s=0.02, cv=0.1), server(most=4, passes="1:40", max_wait_s=wait_s)
        )
        for wait_s in (0.05, 0.0)
    )
    assert held.mean_batch_size > 3.8 > 2.5 > never.mean_batch_size
    assert held.plans_per_s > 1.2 * never.plans_per_s


def test_the_same_is_found_every_time() -> None:
    first, second = (throughput(5, workload(), server(most=4)) for _ in range(2))
    assert first == second
