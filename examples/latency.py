"""Success against latency, with and without real-time chunking.

    python examples/latency.py CHECKPOINT --task PickAndPlaceBox --runs runs/latency

Three ways to live with a policy that takes time, at the same latencies. Actions are late: each
takes effect that much after its observation. Plans are made ahead: the chunk before goes on until
the next one is there. Or they are made ahead by real-time chunking, so that they agree with it.
Each step reuses what is there, so a second run, or one after Ctrl-C, goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages import Stages, call, run_in_project, served

# Of the station: plans can only be made ahead by whole control steps.
CONTROL_STEP_MS = 100
# Up to so many, episodes can be added later.
MOST_EPISODES = 100


@dataclass(frozen=True, kw_only=True)
class Condition:
    """latency_ms: of every action. planned_steps: that each plan is made ahead."""

    execution: str
    latency_ms: int
    planned_steps: int

    @property
    def name(self) -> str:
        return f"{self.execution}-{self.planned_steps}ahead-{self.latency_ms}ms"


def conditions(latencies_ms: list[int]) -> Iterator[Condition]:
    """By latency, all ways of living with it; those that differ from the first alone."""
    for latency_ms in latencies_ms:
        yield Condition(execution="receding", latency_ms=latency_ms, planned_steps=0)
        steps, rest = divmod(latency_ms, CONTROL_STEP_MS)
        if steps > 0 and rest == 0:
            for execution in ("receding", "rtc"):
                yield Condition(execution=execution, latency_ms=0, planned_steps=steps)


@dataclass(frozen=True, kw_only=True)
class Latency:
    checkpoint: Path
    task: str
    latencies_ms: list[int]
    episodes: str
    workers: int
    runs: Path

    def run(self) -> None:
        todo = list(conditions(self.latencies_ms))
        stages = Stages(num=len(todo))
        for condition in todo:
            options = (
                *("--execution", condition.execution),
                *("--planned-latency-steps", condition.planned_steps),
            )
            log = self.runs / f"server_{condition.name}.log"
            with (
                stages.stage(condition.name),
                served(self.checkpoint, *options, log=log) as address,
            ):
                call(
                    *("sim-client", "evaluate", "--tasks", self.task),
                    *("--episodes", self.episodes, "--max-sample-size", MOST_EPISODES),
                    *("--latency-ms", condition.latency_ms),
                    *("--address", address, "--workers", self.workers),
                    *("--policy-name", self.task, "--output", self.runs / condition.name),
                )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--task", default="PickAndPlaceBox")
    parser.add_argument("--latencies-ms", type=int, nargs="+", default=[0, 50, 100, 200, 400])
    parser.add_argument("--episodes", default="500:550", metavar="START:END")
    parser.add_argument("--workers", type=int, default=2, help="simulator processes")
    parser.add_argument("--runs", type=Path, default=Path("runs/latency"))
    options = parser.parse_args()
    latency = Latency(
        checkpoint=options.checkpoint.absolute(),
        task=options.task,
        latencies_ms=options.latencies_ms,
        episodes=options.episodes,
        workers=options.workers,
        runs=options.runs.absolute(),
    )
    return run_in_project(latency.run, folder=latency.runs)


if __name__ == "__main__":
    sys.exit(main())
