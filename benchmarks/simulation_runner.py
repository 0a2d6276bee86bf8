"""What running episodes costs besides simulating them; prints one line of JSON.

    python benchmarks/simulation_runner.py
    python benchmarks/simulation_runner.py --num-episodes 20 --cameras scene_right_0

Each figure is of `sim-client evaluate` itself, on a policy that holds still, so that every episode
takes its whole time limit and all are equally long:

    episodes_per_min        by number of workers, once each has its scene
    speedup_of_two_workers  the ratio of the two
    next_start_s            from the last question of an episode to the first one of the next, by
                            the same worker: its verdict on the disk, the scene reset and settled,
                            the first pictures; the median, and the longest
    episode_s               a whole episode by a worker that has its scene: the median
    fresh_process_s         the same with a process and a scene of its own, as LBM Eval has it
    factor                  fresh_process_s / episode_s

The policy server is a thread of this process; it and the runner need a few percent of a core.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import statistics
import sys
import tempfile
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from policy_interface.contract import Contract, ImageSize
from policy_interface.types import Action, Observation, PolicyMetadata
from policy_server.testing import running_server
from sim_client.evaluation.config import EpisodeRange, EvaluationConfig
from sim_client.evaluation.runner import run
from step_analysis.ledger import LEDGER_FILE_NAME, read_ledger
from step_analysis.rollouts import RolloutRecord

_NAME = "still"


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time the evaluation runner."""

    task: str = "PickAndPlaceBox"
    cameras: Annotated[tuple[str, ...], tyro.conf.arg(metavar="CAMERA")] = (
        "scene_right_0",
        "wrist_right_minus",
    )
    """Of 96x96 pixels each."""
    time_limit_s: float = 8.0
    """Simulated seconds an episode."""
    num_episodes: int = 12
    """A worker."""
    num_fresh: int = 3
    """Episodes with a process each."""


class StillPolicy:
    """Holds still, and notes when it is asked."""

    chunk_length = 1
    open_loop_steps = 1
    num_observations = 1
    metadata = PolicyMetadata(name=_NAME)
    is_instant = True

    def __init__(self, contract: Contract) -> None:
        self.contract = contract
        self.asked: list[tuple[float, float]] = []
        self._lock = threading.Lock()

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        now_s = time.perf_counter()
        with self._lock:
            self.asked += [(now_s, history[-1].time_s or 0.0) for history in histories]
        return [
            [
                Action(
                    poses=history[-1].desired.poses,
                    gripper_widths_m=history[-1].desired.gripper_widths_m,
                )
            ]
            for history in histories
        ]

    def starts_s(self) -> list[float]:
        """Of one worker's episodes: from the last question of one to the first of the next."""
        pairs = zip(self.asked, self.asked[1:], strict=False)
        return [now_s - before_s for (before_s, _), (now_s, time_s) in pairs if time_s == 0.0]


def _evaluate(
    arguments: BenchmarkArguments, address: str, episodes: EpisodeRange, workers: int
) -> list[RolloutRecord]:
    with tempfile.TemporaryDirectory(prefix="simulation-runner-") as folder:
        config = EvaluationConfig(
            tasks=(arguments.task,),
            episodes=episodes,
            address=address,
            workers=workers,
            output=Path(folder),
            time_limit_s=arguments.time_limit_s,
        )
        # The one line on standard output is the result.
        with contextlib.redirect_stdout(sys.stderr):
            code = run(config)
        if code != 0:
            raise SystemExit(f"sim-client evaluate ended with {code}")
        return read_ledger(Path(folder) / _NAME / LEDGER_FILE_NAME)


def _span(record: RolloutRecord) -> tuple[float, float]:
    """When the episode began and ended, in seconds since the epoch."""
    if record.started_at is None or record.wall_s is None:
        raise SystemExit(f"{record.key}: no time in the ledger")
    start_s = datetime.fromisoformat(record.started_at).timestamp()
    return start_s, start_s + record.wall_s


def _episodes_per_min(records: Sequence[RolloutRecord], workers: int) -> float:
    """Once every worker has ended its first episode, until the first has nothing left to do."""
    spans = sorted(map(_span, records))
    warm_s = sorted(end_s for _, end_s in spans[:workers])[-1]
    last_start_s = spans[-1][0]
    # Parts of episodes at both ends count by their share in between.
    shares = [
        max(0.0, min(end_s, last_start_s) - max(start_s, warm_s)) / (end_s - start_s)
        for start_s, end_s in spans
    ]
    return sum(shares) / (last_start_s - warm_s) * 60.0


def _measured(arguments: BenchmarkArguments) -> dict[str, Any]:
    contract = Contract(
        cameras=dict.fromkeys(arguments.cameras, ImageSize(height=96, width=96)),
        uses_language=True,
    )
    policy = StillPolicy(contract)
    with running_server(policy) as server:

        def evaluate(num_episodes: int, workers: int, *, first: int = 0) -> list[RolloutRecord]:
            episodes = EpisodeRange(first, first + num_episodes)
            return _evaluate(arguments, server.address, episodes, workers)

        alone = evaluate(arguments.num_episodes, 1)
        # The first one is that of a scene which is being built.
        starts_s = policy.starts_s()[-(arguments.num_episodes - 1) :]
        together = evaluate(2 * arguments.num_episodes, 2)
        fresh_s = []
        for index in range(arguments.num_fresh):
            began_s = time.perf_counter()
            evaluate(1, 1, first=index)
            fresh_s.append(time.perf_counter() - began_s)
    rates = {1: _episodes_per_min(alone, 1), 2: _episodes_per_min(together, 2)}
    episode_s = 60.0 / rates[1]
    return {
        "episodes_per_min": {str(workers): round(rate, 2) for workers, rate in rates.items()},
        "speedup_of_two_workers": round(rates[2] / rates[1], 3),
        "next_start_s": {
            "median": round(statistics.median(starts_s), 4),
            "max": round(max(starts_s), 4),
        },
        "episode_s": round(episode_s, 3),
        "fresh_process_s": round(statistics.median(fresh_s), 3),
        "factor": round(statistics.median(fresh_s) / episode_s, 2),
    }


def main() -> None:
    """Measure and print."""
    arguments = tyro.cli(BenchmarkArguments)
    print(
        json.dumps(
            {
                "benchmark": "simulation_runner",
                "machine": platform.machine(),
                "num_cores": len(os.sched_getaffinity(0)),
                "task": arguments.task,
                "cameras": list(arguments.cameras),
                "simulated_s": arguments.time_limit_s,
                "num_episodes": arguments.num_episodes,
                **_measured(arguments),
            }
        )
    )


if __name__ == "__main__":
    # Workers are started by importing this file.
    main()
