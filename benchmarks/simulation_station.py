"""What a control step of the station costs: against bare Drake, and against real time.

    python benchmarks/simulation_station.py --tasks all --num-steps 40

Each task's scripted expert acts once, and its actions are then repeated: by the station, and by
bare Drake, which advances the same diagram over the same ticks with the same port values and does
nothing else. Both in turn, several times, on one thread. Times are the process's CPU seconds, and
of each step the least of all repeats, so that other programs disturb them little. Prints one JSON
line, medians over the tasks.
"""

from __future__ import annotations

import json
import os
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import tyro

if TYPE_CHECKING:
    from policy_interface.types import Action
    from sim_client.station.commands import Tick
    from sim_client.station.station import Station

_SEED = 100


@dataclass(frozen=True, kw_only=True)
class Config:
    """Measure the station."""

    tasks: str = "all"
    """Names, separated by commas."""
    num_steps: int = 40
    """Control steps of an episode that are repeated; fewer where the expert is done before."""
    repeats: int = 3
    """Of the same episode."""
    sizes: str = "128,224"
    """Pixels a side of the four cameras' images, separated by commas; empty for no cameras."""
    bare_drake: bool = True
    """Measure a step without cameras against bare Drake."""


def expert_actions(station: Station, num_steps: int) -> list[Action]:
    from sim_client.experts.catalog import make_expert

    expert = make_expert(station.task)
    station.reset(_SEED)
    expert.reset()
    actions = []
    while len(actions) < num_steps and not (expert.finished and station.status().success):
        actions.append(expert.act(station.scene_state(), station.actual(), station.desired()))
        station.step(actions[-1])
    return actions


class Stopwatch:
    """CPU seconds of each control step, the least of all repeats: what disturbs only adds."""

    def __init__(self) -> None:
        self._least_s: list[float] = []

    def time(self, steps: Sequence[Callable[[], object]]) -> None:
        """Run an episode, a callable a step."""
        times_s = []
        for step in steps:
            began_s = time.process_time()
            step()
            times_s.append(time.process_time() - began_s)
        before = self._least_s or times_s
        self._least_s = [min(pair) for pair in zip(before, times_s, strict=True)]

    @property
    def mean_s(self) -> float:
        return statistics.fmean(self._least_s)


def recorded_steps(station: Station, actions: Sequence[Action]) -> list[list[Tick]]:
    """What the station gives the plant's input ports, tick by tick of each control step."""
    world = station.world
    steps: list[list[Tick]] = []
    advance = world.advance

    def watched(tick: Tick) -> None:
        steps[-1].append(tick)
        advance(tick)

    station.reset(_SEED)
    world.advance = watched
    try:
        for action in actions:
            steps.append([])
            station.step(action)
    finally:
        world.advance = advance
    return steps


def bare_drake_steps(
    station: Station, recorded: Sequence[Sequence[Tick]]
) -> list[Callable[[], object]]:
    """The same ticks of the same diagram, and nothing else; to be called after a reset."""
    from sim_client.station.workspace import TIME_STEP_S

    world = station.world
    began = round(world.context.get_time() / TIME_STEP_S)

    plant, context = world.scene.plant, world.plant_context
    ports = [
        (
            plant.get_desired_state_input_port(arm.arm),
            plant.get_desired_state_input_port(arm.fingers),
        )
        for arm in world.scene.arms.values()
    ]

    def step(ticks: Sequence[tuple[Tick, float]]) -> None:
        for tick, until_s in ticks:
            for (arm_port, finger_port), command in zip(ports, tick.commands, strict=True):
                arm_port.FixValue(context, command.joints)
                finger_port.FixValue(context, command.fingers)
            world.simulator.AdvanceTo(until_s)

    steps = []
    for ticks in recorded:
        timed = []
        for tick in ticks:
            began += tick.num_time_steps
            timed.append((tick, began * TIME_STEP_S))
        steps.append(partial(step, timed))
    return steps


def measure_step(task_name: str, config: Config) -> dict[str, float]:
    """Milliseconds of a control step without cameras, the station's and bare Drake's."""
    from sim_client.station.station import Station
    from sim_client.tasks.catalog import get_task

    station = Station(get_task(task_name), cameras={})
    actions = expert_actions(station, config.num_steps)
    recorded = recorded_steps(station, actions)
    ours, bare, digests = Stopwatch(), Stopwatch(), set[str]()
    for _ in range(config.repeats):
        station.reset(_SEED)
        ours.time([partial(station.step, action) for action in actions])
        digests.add(station.state_digest())
        station.reset(_SEED)
        bare.time(bare_drake_steps(station, recorded))
        digests.add(station.state_digest())
    assert len(digests) == 1, f"{task_name}: bare Drake went elsewhere than the station"
    return {
        "station_ms": 1e3 * ours.mean_s,
        "bare_drake_ms": 1e3 * bare.mean_s,
        "ratio": ours.mean_s / bare.mean_s,
    }


def measure_cameras(task_name: str, size: int, config: Config) -> float:
    """Simulated seconds a second with four cameras, an observation each control step."""
    from policy_interface.contract import ImageSize
    from sim_client.station.cameras import DEFAULT_CAMERAS
    from sim_client.station.station import CONTROL_PERIOD_S, Station
    from sim_client.tasks.catalog import get_task

    image_size = ImageSize(height=size, width=size)
    station = Station(get_task(task_name), cameras=dict.fromkeys(DEFAULT_CAMERAS, image_size))
    actions = expert_actions(station, config.num_steps)
    station.observe()

    def step(action: Action) -> None:
        station.observe()
        station.step(action)

    watch = Stopwatch()
    for _ in range(config.repeats):
        station.reset(_SEED)
        watch.time([partial(step, action) for action in actions])
    return CONTROL_PERIOD_S / watch.mean_s


def main(config: Config) -> None:
    os.environ["OMP_NUM_THREADS"] = os.environ["LP_NUM_THREADS"] = "1"
    from sim_client.tasks.catalog import get_tasks

    names = [task.name for task in get_tasks(config.tasks.split(","))]
    summary: dict[str, object] = {"tasks": len(names)}
    if config.bare_drake:
        steps = {name: measure_step(name, config) for name in names}
        for key in ("station_ms", "bare_drake_ms", "ratio"):
            by_task = {name: round(each[key], 3) for name, each in steps.items()}
            summary |= {
                key: round(statistics.median(by_task.values()), 3),
                f"{key}_by_task": by_task,
            }
    for size in [int(size) for size in config.sizes.split(",") if size]:
        by_task = {name: round(measure_cameras(name, size, config), 2) for name in names}
        key = f"real_time_factor_4_cameras_{size}"
        summary |= {key: round(statistics.median(by_task.values()), 2), f"{key}_by_task": by_task}
    print(json.dumps(summary))


if __name__ == "__main__":
    sys.exit(main(tyro.cli(Config, description=__doc__)))
