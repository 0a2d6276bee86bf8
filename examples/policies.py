"""A policy for each task, by one recipe from scripted demonstrations: `make policies`.

Each task's demonstrations are recorded, a policy is trained on them, served, and evaluated closed
loop on held-out seeds. Each step reuses what is there, so a second run, or one after Ctrl-C, goes
on; `python examples/results.py collect RUNS` then keeps what came out in the repository. With
`--begin-with POLICY` none begins from nothing: each goes on from a policy that is told what to do,
and with `--way-back N` it is shown besides how to go on where that policy gets to by itself.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages import (
    GOING_ON,
    Stages,
    call,
    final,
    require_beginning,
    run_in_project,
    served,
    shown,
    timed,
)
from task_names import task_names

from trainer.data.formats.catalog import open_dataset

RECIPE = "one_task"
# How often a training sees each window, and bounds of its optimizer steps: short tasks converge in
# the least, and the most are half an hour of one thread that multiplies in bfloat16.
EPOCHS = 18
BATCH_SIZE = 32
MIN_STEPS, MAX_STEPS = 4000, 12_000
# All of the station's: a later policy of several tasks may want others than this recipe does.
CAMERAS = ("scene_right_0", "scene_left_0", "wrist_right_minus", "wrist_left_plus")
# Of a policy that goes on: its recipe, its steps, and its folder.
BEGUN_RECIPE, BEGUN_STEPS, BEGUN = "small_vla", 900, "begun"
# Of the demonstrations of the way back: the longest that the policy acts first, how many of their
# windows are seen for each of the others', and how much later their scenarios come.
WAY_BACK_S, WAY_BACK_SHARE, LATER = 30, 0.6, 1000
BEGUN_WAY_BACK = "begun_way_back"


@dataclass(frozen=True, kw_only=True)
class Policies:
    """What to train and where.

    begin_with: a policy that each goes on from. num_way_back: demonstrations more that begin where
    it has got to by itself. first: the first scenario of the demonstrations. num_steps: of a
    training; None takes as many as the demonstrations are long, or those of one that goes on.
    episodes: held-out ones, START:END, on which nothing was ever chosen. threads: of a training.

    Policies of another recipe than ours, and those that go on, stand in a folder of their own
    beside it, on the same demonstrations.
    """

    tasks: Sequence[str]
    recipe: str
    begin_with: Path | None
    num_demonstrations: int
    num_way_back: int
    first: int
    num_steps: int | None
    episodes: str
    workers: int
    threads: int
    runs: Path

    def run(self) -> None:
        stages = Stages(num=(4 if self.num_way_back else 3) * len(self.tasks))
        for task in self.tasks:
            self._task(stages, task, self.runs / task)

    def _task(self, stages: Stages, task: str, folder: Path) -> None:
        demonstrations, way_back = folder / "demonstrations", folder / "way_back"
        policy = folder / self._folder()
        policy.mkdir(parents=True, exist_ok=True)
        training = policy / "training"
        with (
            stages.stage(f"{task}: {self.num_demonstrations} demonstrations"),
            timed(folder, "demonstrations"),
        ):
            self._demonstrate(task, self.num_demonstrations, self.first, demonstrations)
        if self.begin_with is not None and self.num_way_back:
            with (
                stages.stage(f"{task}: {self.num_way_back} demonstrations of the way back"),
                timed(policy, "way back"),
                served(self.begin_with, log=policy / "server_of_way_back.log") as address,
            ):
                self._demonstrate(
                    *(task, self.num_way_back, self.first + LATER, way_back),
                    *("--roll-in.address", address, "--roll-in.max-s", WAY_BACK_S),
                )
        with stages.stage(f"{task}: training"), timed(policy, "training"):
            call(
                *("trainer", "train", self.recipe, "--data", demonstrations),
                *self._more_data(way_back),
                *self._steps(demonstrations),
                *("--num-threads", self.threads, "--output", training),
            )
        with (
            stages.stage(f"{task}: evaluating on the held-out episodes {self.episodes}"),
            timed(policy, "evaluation"),
            served(final(training), log=policy / "server.log") as address,
        ):
            call(
                *("sim-client", "evaluate", "--tasks", task, "--episodes", self.episodes),
                *("--address", address, "--workers", self.workers, "--policy-name", task),
                *("--output", policy / "rollouts"),
            )

    def _folder(self) -> str:
        """Of the policy, in its task's."""
        if self.begin_with is None:
            return "" if self.recipe == RECIPE else self.recipe
        return BEGUN_WAY_BACK if self.num_way_back else BEGUN

    def _demonstrate(self, task: str, num: int, first: int, output: Path, *options: object) -> None:
        call(
            *("sim-client", "demos", "--task", task, "--num", num, "--first", first),
            *("--cameras", ",".join(CAMERAS), "--workers", self.workers),
            *(*options, "--output", output),
        )

    def _more_data(self, way_back: Path) -> tuple[object, ...]:
        return ("--more-data", f"{shown(way_back)}={WAY_BACK_SHARE}") if self.num_way_back else ()

    def _steps(self, demonstrations: Path) -> tuple[object, ...]:
        """How many, and from where."""
        if self.begin_with is None:
            return ("--num-steps", self.num_steps or _num_steps(demonstrations))
        return (
            *("--num-steps", self.num_steps or BEGUN_STEPS),
            *("--init", self.begin_with, *GOING_ON),
        )


def _num_steps(demonstrations: Path) -> int:
    dataset = open_dataset(str(demonstrations))
    windows = sum(episode.description.num_steps for episode in dataset)
    return min(MAX_STEPS, max(MIN_STEPS, round(EPOCHS * windows / BATCH_SIZE)))


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--tasks", default="all", help="names or sets, separated by commas: `sim-client tasks`"
    )
    parser.add_argument(
        "--recipe",
        help=f"`trainer list` names them (default: {RECIPE}, {BEGUN_RECIPE} with --begin-with)",
    )
    parser.add_argument(
        "--begin-with",
        type=Path,
        metavar="POLICY",
        help="a checkpoint that each policy goes on from, of the recipe's shape",
    )
    parser.add_argument(
        "--way-back",
        type=int,
        default=0,
        metavar="N",
        help="demonstrations more that begin where the policy of --begin-with has got to by itself",
    )
    parser.add_argument("--demonstrations", type=int, default=150)
    parser.add_argument(
        "--first",
        type=int,
        default=0,
        help="the demonstrations' first scenario: a policy that goes on learns from new ones",
    )
    parser.add_argument(
        "--num-steps",
        type=int,
        help=f"of a training, in place of {EPOCHS} epochs' worth, or {BEGUN_STEPS}",
    )
    parser.add_argument("--episodes", default="500:600", metavar="START:END")
    parser.add_argument("--workers", type=int, default=2, help="simulator processes")
    parser.add_argument("--threads", type=int, default=2, help="of a training")
    parser.add_argument("--runs", type=Path, default=Path("runs/policies"))
    options = parser.parse_args()
    require_beginning(parser, options.begin_with)
    if options.way_back < 0 or (options.way_back and options.begin_with is None):
        parser.error("--way-back: expected a number of demonstrations, and --begin-with beside it")
    tasks = task_names(parser, options.tasks)
    policies = Policies(
        tasks=tasks,
        recipe=options.recipe or (RECIPE if options.begin_with is None else BEGUN_RECIPE),
        begin_with=options.begin_with,
        num_demonstrations=options.demonstrations,
        num_way_back=options.way_back,
        first=options.first,
        num_steps=options.num_steps,
        episodes=options.episodes,
        workers=options.workers,
        threads=options.threads,
        runs=options.runs.absolute(),
    )
    return run_in_project(policies.run, folder=policies.runs)


if __name__ == "__main__":
    sys.exit(main())
