"""How fast the dashboard is with many result files: the first page, each view, and what is new.

    python benchmarks/dashboard.py --num-policies 10 --num-tasks 39 --num-episodes 200

Starts `step-analysis dashboard` on results that it makes, asks as a browser does, and prints JSON.
Seconds of real time, medians of `--rounds` requests; `cpu_s` is the server's processor time of one,
which is the portable figure where the machine is shared.
"""

import contextlib
import http.client
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np
import psutil
import tyro

from step_analysis.dashboard.views import VIEWS
from step_analysis.ledger import LEDGER_FILE_NAME
from step_analysis.results_json import write_results
from step_analysis.rollouts import Outcome, RolloutRecord

_SEED = 7


@dataclass(frozen=True, kw_only=True)
class BenchmarkArguments:
    """Time the dashboard."""

    num_policies: int = 10
    num_tasks: int = 39
    """A result file for each policy and task."""
    num_episodes: int = 200
    rounds: int = 5


def main(arguments: BenchmarkArguments) -> None:
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        _write(root, arguments)
        report: dict[str, Any] = {
            "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
            "python": platform.python_version(),
            "num_files": arguments.num_policies * arguments.num_tasks,
            "num_episodes": arguments.num_policies * arguments.num_tasks * arguments.num_episodes,
        }
        began = time.perf_counter()
        with _dashboard(root) as (process, port, listening_s):
            report["listening"] = _since(began, process, listening_s)
            _get(port, "/overview")
            report["first_page"] = _since(began, process)
            _wait(port, lambda: json.loads(_get(port, "/health"))["is_complete"])
            report["all_read"] = _since(began, process)
            report["counts_after_all_read_s"] = _seconds(port, "/overview")
            report["all_counts"] = _since(began, process)
            _wait(port, lambda: json.loads(_get(port, "/data/overview.json"))["has_verdicts"])
            report["all_verdicts"] = _since(began, process)
            report["views"] = {
                view: _cost(process, port, f"/{view}", arguments.rounds) for view in VIEWS
            }
            report["appended_episode_shown_s"] = _append(root, port)
        print(json.dumps(report, indent=2))


def _write(root: Path, arguments: BenchmarkArguments) -> None:
    rng = np.random.default_rng(_SEED)
    for policy in range(arguments.num_policies):
        for task in range(arguments.num_tasks):
            rate = min(max(0.3 + 0.04 * policy + 0.2 * np.sin(task), 0.02), 0.98)
            name = f"Task{chr(65 + task // 26)}{chr(65 + task % 26)}"
            records = [
                _record(f"model_{policy}", name, index, bool(rng.random() < rate))
                for index in range(arguments.num_episodes)
            ]
            path = root / f"model_{policy}" / name / "rollouts" / "2026-01-31" / "results.json"
            path.parent.mkdir(parents=True)
            write_results(
                path,
                records,
                requested=[(name, index) for index in range(arguments.num_episodes)],
                max_sample_size=arguments.num_episodes,
                num_processes=8,
                elapsed_s=10.0,
            )


def _record(policy: str, task: str, index: int, is_success: bool) -> RolloutRecord:
    return RolloutRecord(
        policy=policy,
        task=task,
        scenario_index=index,
        seed=None,
        outcome=Outcome.SUCCESS if is_success else Outcome.FAILURE,
        duration_s=8.0,
    )


@contextlib.contextmanager
def _dashboard(root: Path) -> Iterator[tuple[psutil.Process, int, float]]:
    """Its process, its port, and when that was listened to."""
    command = [sys.executable, "-m", "step_analysis.command_line", "dashboard", str(root)]
    process = subprocess.Popen(
        [*command, "--port", "0", "--interval", "0.2"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().split()[-1]
        port = urlsplit(address).port
        assert port is not None
        yield psutil.Process(process.pid), port, time.perf_counter()
    finally:
        process.terminate()
        process.wait()


def _get(port: int, path: str) -> bytes:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", path)
        response = connection.getresponse()
        body = response.read()
        assert response.status == 200, (path, response.status)
        return body


def _since(began: float, process: psutil.Process, now: float | None = None) -> dict[str, float]:
    """Seconds since the start, and the server's processor time until now."""
    used = process.cpu_times()
    now = time.perf_counter() if now is None else now
    return {"seconds": round(now - began, 3), "cpu_s": round(used.user + used.system, 3)}


def _seconds(port: int, path: str) -> float:
    began = time.perf_counter()
    _get(port, path)
    return time.perf_counter() - began


def _cost(process: psutil.Process, port: int, path: str, rounds: int) -> dict[str, float]:
    """Median seconds until a page is there, and the server's processor time of one."""
    before = process.cpu_times()
    seconds = statistics.median(_seconds(port, path) for _ in range(rounds))
    after = process.cpu_times()
    used = after.user + after.system - before.user - before.system
    return {"seconds": round(seconds, 3), "cpu_s": round(used / rounds, 3)}


def _wait(port: int, is_there: Any) -> None:
    """Until the dashboard's word of a change makes it true."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    with contextlib.closing(connection):
        connection.request("GET", "/events")
        response = connection.getresponse()
        while line := response.readline():
            if line.startswith(b"data:") and is_there():
                return


def _append(root: Path, port: int) -> float:
    """From a new ledger's line on the disk until a page has it."""
    folder = root / "new"
    folder.mkdir()
    line = _record("new", "TaskAA", 0, True).to_json()
    began = time.perf_counter()
    (folder / LEDGER_FILE_NAME).write_text(f"{line}\n", encoding="ascii")
    _wait(port, lambda: b"new</td>" in _get(port, "/overview?policy=new"))
    return time.perf_counter() - began


if __name__ == "__main__":
    main(tyro.cli(BenchmarkArguments))
