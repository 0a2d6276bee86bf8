"""The policy server against what gRPC costs by itself; prints one line of JSON.

    python benchmarks/serving.py --against-echo
    python benchmarks/serving.py --against-echo --quick
    python benchmarks/serving.py --reference PATH_TO_A_CHECKOUT_OF_lbm_eval

Compare the ratios, not the numbers: these depend on the machine and on what else it does. What a
ratio compares is measured in turns, so that a slow moment of the machine falls on both alike, and
the median over the rounds is printed, with the goal it is held to.

The echo (serving_echo.py) parses each request and answers the same every time. Everywhere but in
the comparison of JPEG with raw pixels, requests are bytes before the clock starts, for every server
alike. With --reference, LBM Eval's own sample server (grpc_workspace/wave_around_policy_server.py,
with batches as large as there are clients and as small as one) takes the same load; each client
keeps one channel. (LBM Eval's client opens one a call, so with it that server is slower than here.)
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import platform
import socket
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np

from policy_interface.client import PolicyClient
from policy_interface.contract import ImageSize
from policy_server.bench.load import Load
from policy_server.bench.measurement import Measurement
from policy_server.bench.own_server import OwnServer, own_server, started
from policy_server.bench.processes import measure

_ECHO = Path(__file__).with_name("serving_echo.py")
_REFERENCE = "grpc_workspace.wave_around_policy_server"
_START_TIMEOUT_S = 60.0

_CHUNK_LENGTH = 8
# So many that some plan is being made at any time, and so few that not everything queues.
_NUM_CHUNK_CLIENTS = 4

_ECHO_SERVERS = {
    "echo": [sys.executable, str(_ECHO), "127.0.0.1:0"],
    "tuned_echo": [sys.executable, str(_ECHO), "127.0.0.1:0", "--tuned"],
}
_OUR_SERVERS = {
    "null": ("null", []),
    "sleep": ("sleep:20", []),
    "sleep_four_replicas": ("sleep:20", ["--replicas", "4"]),
    "chunks": (f"sleep:20:{_CHUNK_LENGTH}", []),
}


@dataclass(frozen=True, kw_only=True)
class Task:
    """One measurement of a round: a server by name, and what differs from the usual load."""

    server: str
    num_clients: int
    encoding: str = "raw"
    encodes: bool = False

    @property
    def name(self) -> str:
        details = f" {self.encoding} from pixels" if self.encodes else ""
        return f"{self.server}, {self.num_clients} clients{details}"


_OURS_ALONE = (
    Task(server="null", num_clients=1, encodes=True),
    Task(server="null", num_clients=1, encoding="jpeg", encodes=True),
    Task(server="null", num_clients=16, encodes=True),
    Task(server="null", num_clients=16, encoding="jpeg", encodes=True),
    *(
        Task(server=server, num_clients=num_clients)
        for server in ("sleep", "sleep_four_replicas")
        for num_clients in (1, 16)
    ),
)
_AGAINST_ECHO = (
    *(
        Task(server=server, num_clients=num_clients)
        for num_clients in (1, 16)
        for server in ("echo", "null", "tuned_echo")
    ),
    Task(server="echo", num_clients=_NUM_CHUNK_CLIENTS),
    Task(server="chunks", num_clients=_NUM_CHUNK_CLIENTS),
)


@dataclass(frozen=True, kw_only=True)
class Goal:
    """A ratio, or a time in ms, of one round's figures by task; and where it should be."""

    name: str
    value: Callable[[Mapping[str, Mapping[str, float]]], float]
    at_most: float | None = None
    at_least: float | None = None

    def is_met(self, value: float) -> bool:
        return (self.at_most is None or value <= self.at_most) and (
            self.at_least is None or value >= self.at_least
        )


def _ratio(figure: str, over: Task, under: Task) -> Callable[[Any], float]:
    return lambda figures: figures[over.name][figure] / figures[under.name][figure]


def _goals_alone() -> Iterator[Goal]:
    for num_clients in (1, 16):
        raw = Task(server="null", num_clients=num_clients, encodes=True)
        yield Goal(
            name=f"jpeg_over_raw_steps_per_s_{num_clients}_clients",
            value=_ratio("steps_per_s", replace(raw, encoding="jpeg"), raw),
            at_least=0.6,
        )
    for server, told in (("sleep", ""), ("sleep_four_replicas", "_four_replicas")):
        one, many = (Task(server=server, num_clients=num_clients) for num_clients in (1, 16))
        yield Goal(
            name=f"sleep_20_ms{told}_steps_per_s_of_16_over_1",
            value=_ratio("steps_per_s", many, one),
            at_least=12.0,
        )
        yield Goal(
            name=f"sleep_20_ms{told}_p95_ms_16_clients",
            value=lambda figures, many=many: figures[many.name]["p95_ms"],
            at_most=45.0,
        )


def _goals_against(echo: str) -> Iterator[Goal]:
    """The goals are for the echo with gRPC's own options; for the tuned one, to compare."""
    has_goal = echo == "echo"
    yield Goal(
        name=f"p50_over_{echo}_1_client",
        value=_ratio(
            "p50_ms", Task(server="null", num_clients=1), Task(server=echo, num_clients=1)
        ),
        at_most=1.4 if has_goal else None,
    )
    yield Goal(
        name=f"steps_per_s_over_{echo}_16_clients",
        value=_ratio(
            "steps_per_s", Task(server="null", num_clients=16), Task(server=echo, num_clients=16)
        ),
        at_least=0.75 if has_goal else None,
    )


def _goal_of_chunks() -> Goal:
    chunks = Task(server="chunks", num_clients=_NUM_CHUNK_CLIENTS)
    echo = Task(server="echo", num_clients=_NUM_CHUNK_CLIENTS)
    return Goal(
        name=f"cached_step_p50_over_echo_{_NUM_CHUNK_CLIENTS}_clients",
        value=lambda figures: figures[chunks.name]["cached_p50_ms"] / figures[echo.name]["p50_ms"],
        at_most=2.0,
    )


def _goals_against_reference(max_batch_sizes: Mapping[int, list[int]]) -> Iterator[Goal]:
    for num_clients, sizes in max_batch_sizes.items():
        names = [Task(server=_reference_name(size), num_clients=num_clients).name for size in sizes]
        ours = Task(server="null", num_clients=num_clients).name

        def value(figures: Any, ours: str = ours, names: list[str] = names) -> float:
            return figures[ours]["steps_per_s"] / max(figures[n]["steps_per_s"] for n in names)

        yield Goal(
            name=f"steps_per_s_over_reference_{num_clients}_clients", value=value, at_least=10.0
        )


def _figures(measurement: Measurement) -> dict[str, float]:
    cached = measurement.control_steps % _CHUNK_LENGTH != 0
    figures = {
        "steps_per_s": measurement.steps_per_s,
        "p50_ms": measurement.percentile_ms(50),
        "p95_ms": measurement.percentile_ms(95),
        "p99_ms": measurement.percentile_ms(99),
        "cached_p50_ms": 1e3 * float(np.median(measurement.latencies_s[cached])),
        "generator_busy": measurement.generator_busy,
        "errors": float(measurement.errors.total()),
    }
    if not measurement.num_steps or measurement.errors:
        raise SystemExit(f"serving.py: a load met errors: {dict(measurement.errors)}")
    return figures


def _page_faults(pid: int) -> int:
    """Of a process so far, where Linux tells. Many a step, and its C library is giving memory back
    to the kernel that it needs again at once (see serving_echo.py)."""
    try:
        status = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return 0
    # After the name, which may hold anything, the eighth: minflt.
    return int(status.rpartition(")")[2].split()[7])


def _reference_name(max_batch_size: int) -> str:
    return f"reference_{max_batch_size}"


@contextlib.contextmanager
def _reference(folder: Path, max_batch_size: int) -> Iterator[OwnServer]:
    """It polls even while it has nothing to do, so it runs for its own turns alone."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    process = subprocess.Popen(
        [
            *(sys.executable, "-m", _REFERENCE),
            *("--server-uri", address, "--batch-max-size", str(max_batch_size)),
        ],
        env={**os.environ, "PYTHONPATH": str(folder.resolve())},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with PolicyClient(address) as client:
            client.wait_until_serving(timeout_s=_START_TIMEOUT_S)
        yield OwnServer(address=address, pid=process.pid)
    finally:
        process.terminate()
        process.wait()


def _run(arguments: argparse.Namespace, load: Load) -> dict[str, Any]:
    tasks = [*_OURS_ALONE]
    goals = [*_goals_alone()]
    targets = ["null", "sleep", "sleep_four_replicas"]
    commands: dict[str, list[str]] = {}
    if arguments.against_echo:
        tasks += _AGAINST_ECHO
        goals += [*_goals_against("echo"), *_goals_against("tuned_echo"), _goal_of_chunks()]
        targets.append("chunks")
        commands = _ECHO_SERVERS
    max_batch_sizes: dict[int, list[int]] = {}
    reference: Path | None = arguments.reference
    if reference is not None:
        max_batch_sizes = {1: [1], 16: [1, 16]}
        goals += _goals_against_reference(max_batch_sizes)
        tasks += [
            task
            for task in (Task(server="null", num_clients=num) for num in max_batch_sizes)
            if task not in tasks
        ]
    rounds: list[dict[str, dict[str, float]]] = []
    with contextlib.ExitStack() as stack:
        servers = {
            name: stack.enter_context(started(command)) for name, command in commands.items()
        }
        for name in targets:
            target, options = _OUR_SERVERS[name]
            servers[name] = stack.enter_context(own_server(target, options))

        def measured(task: Task, server: OwnServer) -> dict[str, float]:
            print(f"round {len(rounds) + 1}: {task.name}", file=sys.stderr)
            num_faults = _page_faults(server.pid)
            measurement = measure(
                replace(
                    load,
                    address=server.address,
                    num_clients=task.num_clients,
                    encoding=task.encoding,  # pyright: ignore[reportArgumentType]
                    encodes=task.encodes,
                )
            )
            num_faults = _page_faults(server.pid) - num_faults
            return _figures(measurement) | {"faults_per_step": num_faults / measurement.num_steps}

        for _ in range(arguments.rounds):
            figures = {task.name: measured(task, servers[task.server]) for task in tasks}
            for num_clients, sizes in max_batch_sizes.items():
                for size in sizes:
                    assert reference is not None
                    task = Task(server=_reference_name(size), num_clients=num_clients)
                    with _reference(reference, size) as server:
                        figures[task.name] = measured(task, server)
            rounds.append(figures)
    return {"ratios": _ratios(goals, rounds), "medians": _medians(rounds)}


def _ratios(
    goals: list[Goal], rounds: list[dict[str, dict[str, float]]]
) -> dict[str, dict[str, Any]]:
    """Each round's own, and of these the median: what is compared stood side by side."""
    ratios = {}
    for goal in goals:
        values = [goal.value(figures) for figures in rounds]
        median = statistics.median(values)
        ratio: dict[str, Any] = {"value": round(median, 3)}
        ratio["range"] = [round(min(values), 3), round(max(values), 3)]
        if goal.at_most is not None or goal.at_least is not None:
            ratio["goal"] = (
                f"<= {goal.at_most:g}" if goal.at_most is not None else f">= {goal.at_least:g}"
            )
            ratio["met"] = goal.is_met(median)
        ratios[goal.name] = ratio
    return ratios


def _medians(rounds: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    return {
        task: {
            figure: round(statistics.median(each[task][figure] for each in rounds), 3)
            for figure in rounds[0][task]
        }
        for task in rounds[0]
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--against-echo", action="store_true")
    parser.add_argument("--reference", type=Path, help="a checkout of lbm_eval to compare with")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--size", type=ImageSize.parse, default=ImageSize(height=224, width=224))
    parser.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--quick", action="store_true", help="one round of half a second each")
    arguments = parser.parse_args()
    reference = arguments.reference
    if reference is not None and not (reference / "grpc_workspace").is_dir():
        parser.error(f"--reference: {reference} holds no grpc_workspace")
    if arguments.quick:
        arguments.rounds, arguments.seconds = 1, 0.5
    load = Load(
        address="",
        num_cameras=arguments.cameras,
        size=arguments.size,
        seconds=arguments.seconds,
    )
    begun_s = time.monotonic()
    busy_before = os.getloadavg()[0]
    results = _run(arguments, load)
    report = {
        "date": time.strftime("%Y-%m-%d"),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "python": platform.python_version(),
        "grpcio": metadata.version("grpcio"),
        "protobuf": metadata.version("protobuf"),
        "load_average_before": round(busy_before, 2),
        "cameras": load.num_cameras,
        "size": str(load.size),
        "seconds": load.seconds,
        "rounds": arguments.rounds,
        "took_s": round(time.monotonic() - begun_s),
        **results,
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
