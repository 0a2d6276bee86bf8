"""`sim-client watch`: look at an evaluation as often as asked for, until it ends."""

from __future__ import annotations

import json
import sys
import threading
import webbrowser
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import tyro

from policy_interface.usage import UsageError
from sim_client.evaluation.live_page import live_pages
from sim_client.evaluation.run_folder import run_folder
from sim_client.watch.page import Screen
from sim_client.watch.standing import Standing, standing
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    LedgerError,
    is_being_written,
    read_design,
)
from step_analysis.ledger_follower import LedgerFollower

COMPLETE, STOPPED = 0, 1


@dataclass(frozen=True, kw_only=True)
class WatchConfig:
    """Watch an evaluation: successes and their intervals, errors, episodes a minute, time left.

    Ends when the evaluation does: with 0 where every episode has its verdict, else with 1."""

    run: tyro.conf.Positional[Annotated[Path, tyro.conf.arg(metavar="RUN")]]
    """Folder of the policy under evaluation: the one with evaluation.json and ledger.jsonl."""
    interval: float = 1.0
    """Seconds from one look to the next."""
    once: bool = False
    """Look once and end, with 0."""
    json: bool = False
    """Print JSON, an object a line for each look."""
    browser: bool = False
    """Open the scenes of an evaluation that runs with --meshcat-port on this machine."""


def run(config: WatchConfig) -> int:
    """Look until there is nothing more to see; the exit code. Raises UsageError."""
    if not 0 < config.interval <= threading.TIMEOUT_MAX:
        raise UsageError(f"--interval: expected seconds, more than 0, got {config.interval}")
    folder = run_folder(config.run)
    if config.browser:
        _open_pages(folder)
    follower = LedgerFollower(folder / LEDGER_FILE_NAME)
    screen = Screen(sys.stdout)
    never = threading.Event()
    try:
        while True:
            seen = _look(folder, follower)
            _show(seen, folder, screen, as_json=config.json)
            if config.once or seen.is_complete:
                return COMPLETE
            if not seen.is_running:
                return STOPPED
            never.wait(config.interval)
    except (LedgerError, OSError) as error:
        if isinstance(error, BrokenPipeError):
            raise
        print(f"sim-client: {error}", file=sys.stderr)
        return STOPPED


def _look(folder: Path, follower: LedgerFollower) -> Standing:
    # Asked first: what was written before the writer ended is then read.
    is_running = is_being_written(folder / LEDGER_FILE_NAME)
    # Each time, because an evaluation may be extended.
    design = read_design(folder / DESIGN_FILE_NAME)
    return standing(design, follower.read(), is_running=is_running)


def _show(seen: Standing, folder: Path, screen: Screen, *, as_json: bool) -> None:
    if not as_json:
        screen.show(seen, pages=live_pages(folder))
        return
    tasks = [
        {**asdict(task), "num_decided": task.num_decided, "interval": list(task.interval)}
        for task in seen.tasks
    ]
    look = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "policy": seen.policy,
        "is_running": seen.is_running,
        "is_complete": seen.is_complete,
        "num_episodes": seen.num_episodes,
        "num_decided": seen.num_decided,
        "episodes_per_min": seen.episodes_per_min,
        "time_left_s": seen.time_left_s,
        "tasks": tasks,
    }
    print(json.dumps(look, allow_nan=False), flush=True)


def _open_pages(folder: Path) -> None:
    pages = live_pages(folder)
    if not pages:
        raise UsageError(
            f"--browser: no evaluation into {folder} is drawing its scenes on this machine; start "
            "or resume it with --meshcat-port"
        )
    for page in pages:
        webbrowser.open(page)
