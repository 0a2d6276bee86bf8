"""Whether `sim-client plan` predicts what a policy server gives to many simulators; prints JSON.

    python benchmarks/simulator_farm.py
    python benchmarks/simulator_farm.py --target sleep:20:8 --open-loop-steps None --think-ms 200

The simulators are clients that sleep where one would simulate, so that a machine with few cores can
have many; the server and its policy are real. First the server is measured alone: passes by batch
size, from its metrics, under clients that never sleep; and what a step costs besides, from one
client that does. From these two the model predicts the plans a second of every number of clients,
which are then measured. `error` is predicted over measured, less 1.
"""

from __future__ import annotations

import asyncio
import json
import os
import socket
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import tyro

from policy_interface.async_client import AsyncPolicyClient
from policy_interface.contract import Contract
from policy_interface.types import CameraView, Observation, Pose, RobotState
from policy_server.bench.own_server import own_server
from sim_client.capacity.pass_time import PassTime, from_metrics
from sim_client.capacity.throughput import Server, Workload, gamma_times, throughput

_SHIPPED = Path(__file__).parents[1] / "docker" / "quickstart-checkpoint"


@dataclass(frozen=True, kw_only=True)
class FarmArguments:
    """Predict, then measure."""

    target: str = str(_SHIPPED)
    """What policy-server serves."""
    open_loop_steps: int | None = 1
    """Control steps of a plan; the policy's own where None."""
    steps_per_plan: int = 1
    """The same, for the model."""
    think_ms: float = 400.0
    """What a client sleeps from one plan to the next."""
    think_cv: float = 0.25
    """Its standard deviation over its mean."""
    clients: tuple[int, ...] = (1, 2, 3, 6, 12, 24, 36)
    """Numbers of them; 1 is what the model learns a step's cost from."""
    max_batch_size: int = 16
    replicas: int = 1
    seconds: float = 10.0
    """Of each measurement."""
    rounds: int = 1
    """Measurements of each number, in turns; their median counts."""


async def _clients(
    address: str, number: int, arguments: FarmArguments, *, think_ms: float, seconds: float
) -> float:
    """Plans a second of so many clients, from their second plan on."""
    counts = [0] * number
    steps = arguments.steps_per_plan
    start = asyncio.Event()

    async def client(index: int) -> None:
        think_s = gamma_times(think_ms / 1e3, arguments.think_cv, index) if think_ms else _never
        async with AsyncPolicyClient(address) as policy:
            observation = _observation(await policy.contract())
            await policy.reset(seed=index)
            await policy.step(observation)
            await start.wait()
            while True:
                pause_s = think_s() / steps
                for _ in range(steps):
                    if pause_s:
                        await asyncio.sleep(pause_s)
                    await policy.step(observation)
                counts[index] += 1

    tasks = [asyncio.create_task(client(index)) for index in range(number)]
    await asyncio.sleep(1.0)
    start.set()
    # Spread out before it counts.
    await asyncio.sleep(min(2.0 * think_ms / 1e3 + 0.5, seconds))
    before, begun_s = sum(counts), time.monotonic()
    done, _ = await asyncio.wait(tasks, timeout=seconds, return_when=asyncio.FIRST_EXCEPTION)
    rate = (sum(counts) - before) / (time.monotonic() - begun_s)
    for task in done:
        task.result()
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
    return rate


def _never() -> float:
    return 0.0


def _observation(contract: Contract | None) -> Observation:
    contract = contract or Contract(cameras={}, uses_language=True)
    rng = np.random.default_rng(0)
    state = RobotState(
        poses={
            arm: Pose(rotation=np.eye(3), translation_m=np.array([0.4, 0.0, 0.3]))
            for arm in contract.arms
        },
        gripper_widths_m=dict.fromkeys(contract.grippers, 0.08),
    )
    return Observation(
        actual=state,
        desired=state,
        cameras={
            name: CameraView(
                rgb=rng.integers(0, 256, (size.height, size.width, 3), dtype=np.uint8),
                intrinsics=np.eye(3),
                X_TC=Pose.identity(),
            )
            for name, size in contract.cameras.items()
        },
        language_instruction="" if contract.uses_language else None,
    )


def _free_address() -> str:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{probe.getsockname()[1]}"


def main() -> None:
    arguments = tyro.cli(FarmArguments, description=__doc__)
    metrics = _free_address()
    options = ["--metrics-address", metrics, "--replicas", str(arguments.replicas)]
    options += ["--max-batch-size", str(arguments.max_batch_size)]
    if arguments.open_loop_steps is not None:
        options += ["--open-loop-steps", str(arguments.open_loop_steps)]
    with own_server(arguments.target, options) as server:

        def rate(number: int, think_ms: float, seconds: float) -> float:
            return asyncio.run(
                _clients(server.address, number, arguments, think_ms=think_ms, seconds=seconds)
            )

        for size in range(1, arguments.max_batch_size + 1, 3):
            rate(size * arguments.replicas, 0.0, 1.5)
        alone = _median(lambda: rate(1, arguments.think_ms, arguments.seconds), arguments.rounds)
        measured = {
            number: _median(
                lambda number=number: rate(number, arguments.think_ms, arguments.seconds),
                arguments.rounds,
            )
            for number in arguments.clients
            if number > 1
        }
        told = from_metrics(metrics)
    report = _report(arguments, told.pass_time, told.step_s, alone, measured)
    print(json.dumps(report, indent=1))


def _median(measure: Callable[[], float], rounds: int) -> float:
    return statistics.median(measure() for _ in range(rounds))


def _report(
    arguments: FarmArguments,
    pass_time: PassTime,
    step_s: float,
    alone: float,
    measured: dict[int, float],
) -> dict[str, object]:
    workload = Workload(
        # One client's round, less its pass and the server's own work: all that is its own.
        think_s=1.0 / alone - pass_time.seconds(1) - arguments.steps_per_plan * step_s,
        think_cv=arguments.think_cv,
        steps_per_plan=arguments.steps_per_plan,
        plans_per_episode=1.0,
    )
    server = Server(
        pass_time=pass_time,
        max_batch_size=arguments.max_batch_size,
        replicas=arguments.replicas,
        step_s=step_s,
    )
    rows = []
    for number, rate in measured.items():
        predicted = throughput(number, workload, server)
        rows.append(
            {
                "clients": number,
                "measured_plans_per_s": round(rate, 2),
                "predicted_plans_per_s": round(predicted.plans_per_s, 2),
                "error": round(predicted.plans_per_s / rate - 1.0, 3),
                "predicted_mean_batch": round(predicted.mean_batch_size, 2),
                "linear_plans_per_s": round(number * alone, 2),
            }
        )
    return {
        "date": time.strftime("%Y-%m-%d"),
        "cpus": os.cpu_count(),
        "load_average": os.getloadavg(),
        "arguments": asdict(arguments),
        "pass_ms": {size: round(1e3 * s, 2) for size, s in pass_time.points_s.items()},
        "step_ms": round(1e3 * step_s, 3),
        "one_client_plans_per_s": round(alone, 3),
        "think_ms": round(1e3 * workload.think_s, 1),
        "most_plans_per_s": round(server.most_plans_per_s(workload), 1),
        "rows": rows,
    }


if __name__ == "__main__":
    main()
