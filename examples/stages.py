"""A pipeline of the project's own verbs, each printed as you would type it."""

from __future__ import annotations

import argparse
import json
import os
import resource
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

from policy_interface.companion import begin_companion, end_companion, ready_address
from step_analysis.atomic_file import write_atomically

PROJECT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
SECONDS_FILE = "seconds.json"
# Of a training that goes on from a policy: 0.4 of the rates that it takes to begin from nothing. At
# the full rates most of what follows is spent on getting back to where the policy was.
GOING_ON = ("--optimizer.matrix-learning-rate", "0.008", "--optimizer.learning-rate", "0.0004")


class StageFailedError(RuntimeError):
    """A verb that ended with an error; it has said why itself."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


class _Terminated(KeyboardInterrupt):
    """SIGTERM, which this process gets by itself, where Ctrl-C reaches its verb too."""


@dataclass
class Stages:
    """num: how many there will be."""

    num: int
    _number: int = 0

    @contextmanager
    def stage(self, title: str) -> Iterator[None]:
        self._number += 1
        print(f"\n[{self._number}/{self.num}] {title}", flush=True)
        began_s = time.monotonic()
        yield
        print(f"      done in {time.monotonic() - began_s:.0f} s", flush=True)


@contextmanager
def timed(folder: Path, stage: str) -> Iterator[None]:
    """Adds what a stage takes to what it took before it was interrupted."""
    path = folder / SECONDS_FILE
    all_spent: Mapping[str, Mapping[str, float]] = (
        json.loads(path.read_text()) if path.exists() else {}
    )
    spent = all_spent.get(stage, {"wall_s": 0.0, "cpu_s": 0.0})
    began = _now()
    try:
        yield
    finally:
        now = {name: spent[name] + value - began[name] for name, value in _now().items()}
        write_atomically(path, json.dumps({**all_spent, stage: now}, indent=2) + "\n")


def _now() -> dict[str, float]:
    """cpu_s: of all processes begun here that have ended, and of those that they began."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return {"wall_s": time.monotonic(), "cpu_s": used.ru_utime + used.ru_stime}


def run_in_project(pipeline: Callable[[], None], *, folder: Path) -> int:
    """The exit code of the whole. folder: where it writes, from the project's folder.

    Ctrl-C and SIGTERM end it, and the verb that it is in.
    """
    signal.signal(signal.SIGTERM, _terminate)
    os.chdir(PROJECT)
    folder.mkdir(parents=True, exist_ok=True)
    began_s = time.monotonic()
    try:
        pipeline()
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except StageFailedError as error:
        return error.exit_code
    print(f"\n{time.monotonic() - began_s:.0f} s in all")
    return 0


def _terminate(number: int, frame: FrameType | None) -> None:
    raise _Terminated


def require_beginning(parser: argparse.ArgumentParser, policy: Path | None) -> None:
    """Ends the program where there is no such folder: sooner than after the demonstrations.

    policy: from the project's folder, as everything in a pipeline.
    """
    if policy is not None and not (PROJECT / policy).is_dir():
        parser.error(f"--begin-with: no folder {policy}")


def shown(path: object) -> str:
    """As it would be typed in the project's folder."""
    return os.path.relpath(path) if isinstance(path, Path) else str(path)


def command_line(program: str, arguments: Sequence[object]) -> list[str]:
    words = [shown(argument) for argument in arguments]
    print(f"      $ {shlex.join([program, *words])}", flush=True)
    return [str(PROGRAMS / program), *words]


def final(run: Path) -> Path:
    """The checkpoint at a training's end."""
    return run / "checkpoints" / "final"


def call(program: str, *arguments: object) -> None:
    process = subprocess.Popen(command_line(program, arguments))
    try:
        exit_code = process.wait()
    except KeyboardInterrupt as interruption:
        # The terminal has sent Ctrl-C to the verb too, which leaves everything resumable.
        if isinstance(interruption, _Terminated):
            process.terminate()
        process.wait()
        raise
    if exit_code != 0:
        raise StageFailedError(exit_code)


def train(*arguments: object, num_processes: int) -> None:
    """`trainer train`, in so many processes."""
    shared = () if num_processes == 1 else ("--num-processes", num_processes)
    call("trainer", "train", *arguments, *shared)


@contextmanager
def served(checkpoint: Path, *options: object, log: Path) -> Iterator[str]:
    """A policy server on a free port of the loopback interface, for as long as it is needed."""
    arguments = ("serve", checkpoint, *options, "--address", "127.0.0.1:0")
    with log.open("ab") as log_file:
        server = begin_companion(
            command_line("policy-server", arguments), output=subprocess.PIPE, errors=log_file
        )
    try:
        assert server.stdout is not None
        address = ready_address(server.stdout)
        if address is None:
            print(log.read_text(errors="replace"), file=sys.stderr)
            raise StageFailedError(server.wait())
        yield address
    finally:
        end_companion(server)
