"""The main job from end to end, on this machine: `make demo`.

Records scripted demonstrations in the Drake simulation, trains an image-conditioned policy on
them, serves it over gRPC, evaluates it and an early checkpoint of the same run closed loop on
held-out seeds, and reports which is better. Every step is one of the project's own verbs, printed
as you would type it. Each reuses what is there, so a second run, or one after Ctrl-C, goes on.
"""

from __future__ import annotations

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

PROJECT = Path(__file__).resolve().parent.parent
PROGRAMS = Path(sys.executable).parent
READY_LINE = re.compile(r"\bat (\S+:\d+)")


class StageFailedError(RuntimeError):
    """A verb that ended with an error; it has said why itself."""

    def __init__(self, exit_code: int) -> None:
        super().__init__(f"exit code {exit_code}")
        self.exit_code = exit_code


@dataclass(frozen=True, kw_only=True)
class Demo:
    """What to run and where; the defaults are the README's demo."""

    task: str
    recipe: str
    num_demonstrations: int
    num_episodes: int
    early_step: int
    workers: int
    runs: Path
    report: Path
    cameras: Sequence[str]

    def run(self) -> None:
        demonstrations = self.runs / "demonstrations"
        training = self.runs / "training"
        rollouts = self.runs / "rollouts"
        with stage(1, f"{self.num_demonstrations} demonstrations by a scripted expert"):
            call(
                *("sim-client", "demos", "--task", self.task),
                *("--num", self.num_demonstrations, "--workers", self.workers),
                *("--cameras", ",".join(self.cameras), "--output", demonstrations),
            )
        with stage(2, "training a policy on them"):
            call(
                *("trainer", "train", self.recipe, "--data", demonstrations),
                *("--output", training, "--checkpoint-steps", self.early_step),
            )
            link = self.runs / "checkpoint"
            link.unlink(missing_ok=True)
            link.symlink_to(Path("training", "checkpoints", "final"))
        checkpoints = training / "checkpoints"
        policies = {
            "early": checkpoints / f"step_{self.early_step:06d}",
            "trained": checkpoints / "final",
        }
        for number, (name, checkpoint) in enumerate(policies.items(), start=3):
            with (
                stage(
                    number, f"evaluating the {name} policy on {self.num_episodes} held-out seeds"
                ),
                served(checkpoint, log=self.runs / f"server_of_{name}.log") as address,
            ):
                call(
                    *("sim-client", "evaluate", "--tasks", self.task),
                    *("--episodes", f"0:{self.num_episodes}", "--address", address),
                    *("--workers", self.workers, "--policy-name", name, "--output", rollouts),
                )
        with stage(5, "the report"):
            call("step-analysis", "report", rollouts, "--output", self.report)


@contextmanager
def stage(number: int, title: str) -> Iterator[None]:
    print(f"\n[{number}/5] {title}", flush=True)
    began_s = time.monotonic()
    yield
    print(f"      done in {time.monotonic() - began_s:.0f} s", flush=True)


def shown(path: object) -> str:
    """As it would be typed in the project's folder."""
    return os.path.relpath(path) if isinstance(path, Path) else str(path)


def command_line(program: str, arguments: Sequence[object]) -> list[str]:
    words = [shown(argument) for argument in arguments]
    print(f"      $ {shlex.join([program, *words])}", flush=True)
    return [str(PROGRAMS / program), *words]


def call(program: str, *arguments: object) -> None:
    process = subprocess.Popen(command_line(program, arguments))
    try:
        exit_code = process.wait()
    except KeyboardInterrupt:
        # The terminal has sent it to the verb too, which leaves everything resumable.
        process.wait()
        raise
    if exit_code != 0:
        raise StageFailedError(exit_code)


@contextmanager
def served(checkpoint: Path, *, log: Path) -> Iterator[str]:
    """A policy server on a free port of the loopback interface, for as long as it is needed."""
    arguments = ("serve", checkpoint, "--address", "127.0.0.1:0")
    # In a session of its own: Ctrl-C is for the evaluation, which then ends the server.
    with log.open("a") as log_file:
        server = subprocess.Popen(
            command_line("policy-server", arguments),
            stdout=subprocess.PIPE,
            stderr=log_file,
            text=True,
            start_new_session=True,
        )
    try:
        assert server.stdout is not None
        ready = next((match for line in server.stdout if (match := READY_LINE.search(line))), None)
        if ready is None:
            print(log.read_text(), file=sys.stderr)
            raise StageFailedError(server.wait())
        yield ready[1]
    finally:
        server.terminate()
        server.wait()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"))
    parser.add_argument("--report", type=Path, default=Path("report"))
    options = parser.parse_args()
    os.chdir(PROJECT)
    options.runs.mkdir(parents=True, exist_ok=True)
    demo = Demo(
        task="PickAndPlaceBox",
        recipe="pick_and_place_box",
        num_demonstrations=options.demonstrations,
        num_episodes=options.episodes,
        early_step=150,
        workers=options.workers,
        runs=options.runs,
        report=options.report,
        # Those that the recipe looks at: others would only take time to render.
        cameras=("scene_right_0", "wrist_right_minus"),
    )
    began_s = time.monotonic()
    try:
        demo.run()
    except KeyboardInterrupt:
        print("\ninterrupted; the same command goes on from here", file=sys.stderr)
        return 130
    except StageFailedError as error:
        return error.exit_code
    print(f"\n{time.monotonic() - began_s:.0f} s in all")
    return 0


if __name__ == "__main__":
    sys.exit(main())
