"""Time of a plan by batch size, as a checkpoint can be served; prints JSON.

    OMP_NUM_THREADS=1 python benchmarks/policy_inference.py
    python benchmarks/policy_inference.py --compile --batch-sizes 1 16

Variants, interleaved so that what else the machine does meets them all alike:

    plain       float32, batch_invariant=False: one forward pass of the whole batch
    invariant   the same bits for an episode whatever its batch: the default on a CPU
    one_by_one  what would be invariant without searching for sizes that agree
    bfloat16    plain, but for the precision
    compiled    plain, by torch.compile (with --compile: minutes); compiled_bfloat16, both

each for free plans and for guided ones (real-time chunking). `ms` is the median by the wall's
clock, `cpu_ms` of CPU time; ratios are to `plain` of the same kind and batch size in the same run,
of CPU time on a CPU and of the wall's elsewhere. Observations are random.
"""

from __future__ import annotations

import json
import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro

from policy_interface.types import (
    Action,
    CameraView,
    ChunkGuidance,
    Observation,
    Pose,
    RobotState,
)
from trainer.inference import Policy, ServingPrecision
from trainer.policy_loading import load_policy

_SHIPPED = Path(__file__).parents[1] / "docker" / "quickstart-checkpoint"

# Frozen steps of a guided plan.
_NUM_FROZEN = 3


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time plans of a checkpoint.

    Attributes:
        checkpoint: Its folder.
        device: cpu, cuda or cuda:N.
        batch_sizes: Episodes a plan.
        num_threads: Torch's threads on the CPU.
        num_rounds: Times that every variant is timed.
        compile: Compile, too, which takes minutes.
    """

    checkpoint: Path = _SHIPPED
    device: str = "cpu"
    batch_sizes: tuple[int, ...] = (1, 2, 4, 8, 16)
    num_threads: int = 1
    num_rounds: int = 15
    compile: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Requests:
    """As many as the largest batch has; smaller ones take the first of them."""

    histories: list[list[Observation]]
    guidance: list[ChunkGuidance]

    @staticmethod
    def random(policy: Policy, count: int) -> Requests:
        histories = [
            [_observation(policy, seed)] * policy.num_observations for seed in range(count)
        ]
        chunks = [policy.plan([history], [0])[0] for history in histories]
        return Requests(
            histories=histories, guidance=[_rest(chunk, policy.open_loop_steps) for chunk in chunks]
        )


def _observation(policy: Policy, seed: int) -> Observation:
    rng = np.random.default_rng(seed)
    state = RobotState(
        poses={
            arm: Pose(rotation=np.eye(3), translation_m=rng.uniform(-0.3, 0.3, 3))
            for arm in policy.contract.arms
        },
        gripper_widths_m=dict.fromkeys(policy.contract.grippers, 0.08),
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
            for name, size in policy.contract.cameras.items()
        },
        language_instruction="" if policy.contract.uses_language else None,
    )


def _rest(chunk: list[Action], num_executed: int) -> ChunkGuidance:
    """Of a chunk that is half executed; at least what a plan can be frozen to."""
    start = max(min(num_executed, len(chunk) - _NUM_FROZEN), 0)
    return ChunkGuidance(actions=chunk[start:], num_frozen=min(_NUM_FROZEN, len(chunk) - start))


def _plan(policy: Policy, requests: Requests, size: int, is_guided: bool) -> None:
    histories, noise = requests.histories[:size], list(range(size))
    if is_guided:
        policy.plan_guided(histories, noise, requests.guidance[:size])
    else:
        policy.plan(histories, noise)


def _plan_one_by_one(policy: Policy, requests: Requests, size: int, is_guided: bool) -> None:
    for index in range(size):
        one = Requests(
            histories=requests.histories[index : index + 1],
            guidance=requests.guidance[index : index + 1],
        )
        _plan(policy, one, 1, is_guided)


def _variants(arguments: BenchmarkArguments) -> tuple[dict[str, Any], dict[str, float]]:
    """What plans, by name; and the seconds that loading each took."""
    seconds: dict[str, float] = {}

    def load(name: str, precision: ServingPrecision, is_compiled: bool) -> Policy:
        started = time.perf_counter()
        policy = load_policy(
            arguments.checkpoint,
            device=arguments.device,
            batch_invariant=False,
            precision=precision,
            compile=is_compiled,
        )
        policy.warm_up(arguments.batch_sizes, guided=True)
        seconds[name] = round(time.perf_counter() - started, 2)
        return policy

    plain = load("plain", "float32", False)
    invariant = replace(plain, batch_invariant=True)
    started = time.perf_counter()
    invariant.warm_up(arguments.batch_sizes, guided=True)
    seconds["invariant"] = round(time.perf_counter() - started, 2)
    variants: dict[str, Any] = {
        "plain": partial(_plan, plain),
        "invariant": partial(_plan, invariant),
        "one_by_one": partial(_plan_one_by_one, plain),
        "bfloat16": partial(_plan, load("bfloat16", "bfloat16", False)),
    }
    if arguments.compile:
        variants["compiled"] = partial(_plan, load("compiled", "float32", True))
        variants["compiled_bfloat16"] = partial(_plan, load("compiled_bfloat16", "bfloat16", True))
    return variants, seconds


def _timed(acts: Mapping[str, Callable[[], None]], num_rounds: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each, all taking turns."""
    wall_ms: dict[str, list[float]] = {name: [] for name in acts}
    cpu_ms: dict[str, list[float]] = {name: [] for name in acts}
    for _ in range(num_rounds):
        for name, act in acts.items():
            wall, cpu = time.perf_counter(), time.process_time()
            act()
            wall_ms[name].append(1e3 * (time.perf_counter() - wall))
            cpu_ms[name].append(1e3 * (time.process_time() - cpu))
    return {
        name: {
            "ms": round(statistics.median(wall_ms[name]), 2),
            "cpu_ms": round(statistics.median(cpu_ms[name]), 2),
        }
        for name in acts
    }


def main() -> None:
    arguments = tyro.cli(BenchmarkArguments, description=__doc__)
    torch.set_num_threads(arguments.num_threads)
    variants, seconds = _variants(arguments)
    reference = load_policy(arguments.checkpoint, device=arguments.device)
    requests = Requests.random(reference, max(arguments.batch_sizes))
    clock = "cpu_ms" if arguments.device == "cpu" else "ms"
    plans: dict[str, dict[str, Any]] = {}
    for kind, is_guided in (("free", False), ("guided", True)):
        for size in arguments.batch_sizes:
            times = _timed(
                {name: partial(plan, requests, size, is_guided) for name, plan in variants.items()},
                arguments.num_rounds,
            )
            for figures in times.values():
                figures["ratio"] = round(figures[clock] / times["plain"][clock], 2)
            plans.setdefault(kind, {})[str(size)] = times
    result = {
        "checkpoint": arguments.checkpoint.name,
        "num_flow_steps": reference.num_flow_steps,
        "device": arguments.device,
        "num_threads": arguments.num_threads,
        "load_s": seconds,
        "plan_by_batch_size": plans,
        "load_average_at_the_end": os.getloadavg()[0],
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
