"""`sim-client plan`: the right numbers of simulators and batch, told as a table, JSON or a plot."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sim_client.capacity.config import CapacityConfig
from sim_client.capacity.farm import Choice, Farm, Prices, farm
from sim_client.capacity.pass_time import PassTime, from_metrics
from sim_client.capacity.throughput import Server, Workload
from sim_client.capacity.workload import MeasuredEpisodes, measured_episodes

SCHEMA = "assay.capacity/1"


def run(config: CapacityConfig) -> int:
    """Compute and tell; the exit code. Raises UsageError."""
    measured, workload = _workload(config)
    pass_time, step_s = _passes(config)
    most = config.max_batch_size or pass_time.largest
    server = Server(
        pass_time=pass_time,
        max_batch_size=most,
        replicas=config.replicas,
        step_s=step_s,
        max_wait_s=config.max_wait_ms / 1e3,
    )
    prices = Prices(
        cpu_hour=config.cpu_hour,
        gpu_hour=config.gpu_hour,
        cores_per_simulator=config.cores_per_simulator,
        server_cores=config.server_cores,
    )
    max_simulators = None
    if config.cores is not None:
        max_simulators = int(config.cores / config.cores_per_simulator)
    found = farm(
        workload,
        server,
        prices,
        max_simulators=max_simulators,
        batch_sizes=[*(2**i for i in range(20) if 2**i < most), most],
    )
    job = None if config.episodes is None else _job(config.episodes, config.within_h, found)
    if config.plot is not None:
        _draw(config.plot, found)
    if config.json:
        print(json.dumps(_as_json(measured, workload, server, found, job), allow_nan=False))
    else:
        for line in _lines(config, measured, workload, server, found, job):
            print(line)
    return 0


@dataclass(frozen=True, kw_only=True)
class Job:
    """So many episodes on the right farm, as often as it takes. cost: None without prices."""

    episodes: int
    servers: int
    simulators: int
    hours: float
    cost: float | None


def _job(episodes: int, within_h: float | None, found: Farm) -> Job:
    rate = found.right.throughput.episodes_per_hour
    servers = 1 if within_h is None else max(1, math.ceil(episodes / within_h / rate))
    return Job(
        episodes=episodes,
        servers=servers,
        simulators=servers * found.right.num_simulators,
        hours=episodes / (servers * rate),
        cost=None if found.right.cost is None else episodes * found.right.cost,
    )


def _workload(config: CapacityConfig) -> tuple[MeasuredEpisodes | None, Workload]:
    if config.measured is not None:
        measured = measured_episodes(config.measured, config.open_loop_steps)
        return measured, measured.workload(config.think_cv)
    assert config.episode_s is not None
    assert config.control_steps is not None
    assert config.open_loop_steps is not None
    plans = max(config.control_steps / config.open_loop_steps, 1.0)
    return None, Workload(
        think_s=config.episode_s / plans,
        think_cv=config.think_cv,
        steps_per_plan=config.open_loop_steps,
        plans_per_episode=plans,
    )


def _passes(config: CapacityConfig) -> tuple[PassTime, float]:
    """A pass by its batch, and the server's own seconds on a control step."""
    step_s = None if config.step_ms is None else config.step_ms / 1e3
    if config.server_metrics is not None:
        measured = from_metrics(config.server_metrics)
        return measured.pass_time, measured.step_s if step_s is None else step_s
    if config.pass_file is not None:
        return PassTime.from_benchmark(config.pass_file, config.variant), step_s or 0.0
    assert config.pass_ms is not None
    return PassTime.parse(config.pass_ms), step_s or 0.0


def _lines(
    config: CapacityConfig,
    measured: MeasuredEpisodes | None,
    workload: Workload,
    server: Server,
    found: Farm,
    job: Job | None,
) -> Iterator[str]:
    if measured is not None:
        yield (
            f"Measured on {measured.num_episodes} episodes: {measured.wall_s:.2f} s each, "
            f"{measured.control_steps:.0f} control steps, {measured.plans:.1f} plans, each waited "
            f"for {1e3 * measured.plan_wait_s:.0f} ms."
        )
    passes = ", ".join(
        f"{1e3 * seconds:.1f} ms at {size}" for size, seconds in server.pass_time.points_s.items()
    )
    yield f"A simulator works {1e3 * workload.think_s:.0f} ms between plans. A pass: {passes}."
    if not server.step_s:
        yield "The server's own work on a control step is not counted; --step-ms counts it."
    elif workload.steps_per_plan * server.step_s > 1.0 / _passes_limit(server):
        yield "The server's own work on control steps, not the policy, is its limit."
    if server.max_batch_size > server.pass_time.largest:
        yield (
            f"Beyond a batch of {server.pass_time.largest}, the largest measured, passes are "
            "extrapolated."
        )
    yield ""
    yield from _table(found)
    yield ""
    right = found.right.throughput
    cost = "" if found.right.cost is None else f", {_price(found.right.cost)} an episode"
    why = "the cheapest episode" if found.right.cost is not None else "nine tenths of the most"
    yield (
        f"Right: {right.num_simulators} simulators a server, --max-batch-size "
        f"{right.max_batch_size}: {right.episodes_per_hour:.0f} episodes an hour{cost} ({why})."
    )
    yield (
        f"The server saturates at about {found.saturation:.0f} simulators, and gives at most "
        f"{found.most_episodes_per_hour:.0f} episodes an hour."
    )
    if config.cores is not None and found.choices[-1].num_simulators < found.saturation:
        yield f"{config.cores:g} cores are fewer than it could feed."
    if job is not None:
        price = "" if job.cost is None else f", for {_price(job.cost)}"
        yield (
            f"{job.episodes} episodes: {job.hours:.2f} h on {job.servers} "
            f"server{'s' if job.servers > 1 else ''} with {job.simulators} simulators in "
            f"all{price}."
        )
    else:
        yield "How many episodes it takes, step-analysis plan says; give them as --episodes."
    if config.plot is not None:
        yield f"Plot: {config.plot}"


def _passes_limit(server: Server) -> float:
    """Plans a second by forward passes alone."""
    sizes = range(1, server.max_batch_size + 1)
    return max(server.replicas * size / server.pass_time.seconds(size) for size in sizes)


def _table(found: Farm) -> Iterator[str]:
    has_cost = found.right.cost is not None
    yield (
        "simulators  max batch  mean batch  plans/s  episodes/h  wait ms  server busy"
        f"{'  an episode' if has_cost else ''}"
    )
    for choice in found.choices:
        row = choice.throughput
        cost = "" if choice.cost is None else f"  {_price(choice.cost):>10}"
        mark = " <" if choice is found.right else ""
        yield (
            f"{row.num_simulators:10d}  {row.max_batch_size:9d}  {row.mean_batch_size:10.1f}  "
            f"{row.plans_per_s:7.1f}  {row.episodes_per_hour:10.0f}  {1e3 * row.wait_s:7.1f}  "
            f"{100 * row.server_busy:9.0f} %{cost}{mark}"
        )


def _price(value: float) -> str:
    return f"{value:.4g}"


def _as_json(
    measured: MeasuredEpisodes | None,
    workload: Workload,
    server: Server,
    found: Farm,
    job: Job | None,
) -> dict[str, Any]:
    def of(choice: Choice) -> dict[str, Any]:
        return asdict(choice.throughput) | {"cost": choice.cost}

    return {
        "schema": SCHEMA,
        "measured": None if measured is None else asdict(measured) | {"plans": measured.plans},
        "workload": asdict(workload),
        "pass_s": {str(size): s for size, s in server.pass_time.points_s.items()},
        "step_s": server.step_s,
        "replicas": server.replicas,
        "choices": [of(choice) for choice in found.choices],
        "right": of(found.right),
        "saturation": found.saturation,
        "most_episodes_per_hour": found.most_episodes_per_hour,
        "job": None if job is None else asdict(job),
    }


def _draw(path: Path, found: Farm) -> None:
    from sim_client.capacity.figure import farm_figure
    from step_analysis.atomic_file import write_atomically

    right = found.right.throughput
    title = (
        f"{right.num_simulators} simulators and batches of up to {right.max_batch_size}: "
        f"{right.episodes_per_hour:.0f} episodes an hour"
    )
    drawing = farm_figure(found, title=title)
    match path.suffix.lower():
        case ".svg":
            from step_analysis.report.svg import svg_file

            content: bytes | str = svg_file(drawing, "light", title)
        case ".pdf":
            from step_analysis.report.pdf import pdf_file

            content = pdf_file(drawing, "light", title)
        case _:
            from step_analysis.report.png import png_file

            content = png_file(drawing, "light")
    write_atomically(path, content)
