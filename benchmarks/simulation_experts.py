"""How often each scripted expert succeeds, and what its episodes take: one JSON line a task.

    python benchmarks/simulation_experts.py --tasks all --seeds 100:200 --workers 2

Episodes run without cameras, under the noise that demonstrations are recorded with (or none, with
--quiet). A failure is listed with its seed and its predicates, so that it can be looked at.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain

import tyro


@dataclass(frozen=True, kw_only=True)
class Config:
    """Prove the scripted experts."""

    tasks: str = "all"
    """Names, separated by commas."""
    seeds: str = "100:200"
    """START:END without END."""
    workers: int = 2
    """Processes."""
    quiet: bool = False
    """Without noise."""


@dataclass(frozen=True, kw_only=True)
class Episode:
    seed: int
    success: bool
    duration_s: float
    cpu_s: float
    why: str


def run_seeds(task_name: str, seeds: list[int], quiet: bool) -> list[Episode]:
    """One process's share."""
    from sim_client.experts.catalog import make_expert
    from sim_client.experts.expert import CommandNoise, NoiseInjector, perturbed
    from sim_client.station.station import SimulationError, Station
    from sim_client.tasks.catalog import get_task
    from sim_client.tasks.random_streams import stream

    task = get_task(task_name)
    station = Station(task, cameras={})
    expert = make_expert(task)
    noise = CommandNoise(burst_probability=0.0) if quiet else CommandNoise()
    episodes = []
    for seed in seeds:
        began_s = time.process_time()
        station.reset(seed)
        expert.reset()
        injectors = {
            arm: NoiseInjector(noise, stream(seed, f"noise.{arm}")) for arm in station.contract.arms
        }
        why = ""
        try:
            while not (expert.finished and station.status().success):
                action = expert.act(station.scene_state(), station.actual(), station.desired())
                station.step(perturbed(action, injectors, expert.arms))
                if station.status().failed or station.time_s >= task.time_limit_s:
                    break
        except SimulationError as error:
            why = str(error)
        status = station.status()
        if not status.success and not why:
            false = [name for name, value in status.predicates.items() if value is False]
            why = f"{'lost' if status.failed else 'timeout'}, progress {status.progress:.2f}, not: "
            why += ", ".join(false)
        episodes.append(
            Episode(
                seed=seed,
                success=status.success,
                duration_s=round(station.time_s, 1),
                cpu_s=time.process_time() - began_s,
                why=why,
            )
        )
    return episodes


def summaries(config: Config) -> Iterator[dict[str, object]]:
    """A summary for each task."""
    from sim_client.tasks.catalog import get_tasks

    names = [task.name for task in get_tasks(config.tasks.split(","))]
    start, stop = (int(part) for part in config.seeds.split(":"))
    shares = [list(range(start + i, stop, config.workers)) for i in range(config.workers)]
    with multiprocessing.get_context("spawn").Pool(config.workers) as pool:
        for name in names:
            jobs = [(name, share, config.quiet) for share in shares if share]
            found = chain.from_iterable(pool.starmap(run_seeds, jobs))
            episodes = sorted(found, key=lambda each: each.seed)
            durations = sorted(episode.duration_s for episode in episodes if episode.success)
            yield {
                "task": name,
                "episodes": len(episodes),
                "successes": sum(episode.success for episode in episodes),
                "median_duration_s": round(durations[len(durations) // 2], 1)
                if durations
                else None,
                "longest_success_s": round(durations[-1], 1) if durations else None,
                "cpu_s_per_episode": round(
                    sum(episode.cpu_s for episode in episodes) / len(episodes), 2
                ),
                "failures": {e.seed: e.why for e in episodes if not e.success},
            }


def main(config: Config) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    for summary in summaries(config):
        print(json.dumps(summary), flush=True)


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
