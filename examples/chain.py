"""Language, then vision and language, then action, on this machine: `make chain`.

A language model learns from the project's own text, goes on to answer about pictures of simulated
scenes, and becomes a policy that is told what to do; the policy is served and evaluated closed
loop. With `--compare` the last stage is trained from scratch too, on the same data and for as many
steps, and a report says whether the stages before it helped. `--size small --tasks all` makes one
policy for all of the simulation's tasks, which takes hours; `--begin-with POLICY` leaves out the
stages before action and goes on from a policy. Each step reuses what is there, so a
second run, or one after Ctrl-C, goes on; `--only-evaluate` takes the policy in RUNS/vla however it
was trained. `python examples/results.py collect all_tasks RUNS` keeps what came out.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from stages import (
    GOING_ON,
    PROJECT,
    Stages,
    call,
    final,
    require_beginning,
    run_in_project,
    served,
    shown,
    timed,
    train,
)
from task_names import task_names

# Cameras of the policies, by the size of the recipes.
CAMERAS = {
    "tiny": "scene_right_0,wrist_right_minus",
    "small": "scene_left_0,wrist_right_minus,wrist_left_plus",
}
ROLLOUTS, UNSEEN_WORDS = "rollouts", "unseen-words"
TEXTS = ("docs", "proto", "trainer", "policy_server", "sim_client", "step_analysis")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What to run and where; the defaults are those of docs/training.md.

    tasks: what the policy learns. size: of the recipes, the first part of their names.
    begin_with: a policy, in place of the stages before action. action_steps: of the last stage, the
    recipe's where it is None. num_processes: of a training. first_episode: of the
    evaluation. num_in_unseen_words: episodes a task that are told, once more, in phrasings that no
    demonstration has. only_evaluate: the policy is there.
    """

    tasks: Sequence[str]
    size: str
    begin_with: Path | None
    action_steps: int | None
    num_processes: int
    first_episode: int
    num_scenes: int
    num_demonstrations: int
    num_episodes: int
    num_in_unseen_words: int
    workers: int
    runs: Path
    compare: bool
    only_evaluate: bool
    seed: int

    def run(self) -> None:
        num_evaluations = 1 + (self.num_in_unseen_words > 0)
        num_taught = 0 if self.only_evaluate else 5 if self.begin_with is None else 2
        num_compared = 2 + num_evaluations if self.compare else 0
        stages = Stages(num=num_taught + num_evaluations + num_compared)
        if not self.only_evaluate:
            self._teach(stages)
        self._evaluate(stages, "pretrained", self.runs / "vla")
        if not self.compare:
            return
        with stages.stage("the same, from scratch"):
            self._train_policy(self.runs / "from_scratch")
        self._evaluate(stages, "from_scratch", self.runs / "from_scratch")
        with stages.stage("the report"):
            call("step-analysis", "report", self.runs / ROLLOUTS, "--output", self.runs / "report")

    def _teach(self, stages: Stages) -> None:
        beginning = self.begin_with
        if beginning is None:
            beginning = self._teach_to_read_and_see(stages)
        told = self.tasks[0] if len(self.tasks) == 1 else f"each of {len(self.tasks)} tasks"
        with stages.stage(f"{self.num_demonstrations} demonstrations of {told} by its expert"):
            for task in self.tasks:
                self._demonstrate(task)
        with stages.stage("teaching it to act"):
            going_on = () if self.begin_with is None else GOING_ON
            self._train_policy(self.runs / "vla", *going_on, init=beginning)

    def _teach_to_read_and_see(self, stages: Stages) -> Path:
        """The checkpoint of what came out."""
        runs, cameras = self.runs, CAMERAS[self.size]
        texts, scenes = runs / "texts", runs / "scenes"
        with stages.stage("a language model, of the project's documentation and source"):
            copy_texts(texts)
            self._train("lm", [texts], runs / "lm")
        with stages.stage(f"{self.num_scenes} scenes, drawn, with questions about them"):
            if not scenes.exists():
                call(
                    *("sim-client", "captions", "--scenes", self.num_scenes),
                    *("--tasks", "seen" if len(self.tasks) == 1 else ",".join(self.tasks)),
                    *("--cameras", cameras, "--output", scenes),
                )
        with stages.stage("teaching it to see"):
            self._train("vlm", [scenes], runs / "vlm", init=final(runs / "lm"))
        return final(runs / "vlm")

    def _demonstrate(self, task: str) -> None:
        call(
            *("sim-client", "demos", "--task", task, "--num", self.num_demonstrations),
            *("--cameras", CAMERAS[self.size]),
            *("--workers", self.workers, "--output", self._demonstrations(task)),
        )
        if len(self.tasks) > 1:
            # Of several tasks not all that is drawn fits into memory, and a window of a compressed
            # array costs the inflation of all before it.
            call(
                *("trainer", "data", "convert", self._demonstrations(task)),
                self._data(task),
            )

    def _demonstrations(self, task: str) -> Path:
        return self.runs / "demos" if len(self.tasks) == 1 else self.runs / "demos" / task

    def _data(self, task: str) -> Path:
        """What the policy is trained on."""
        one = len(self.tasks) == 1
        return self._demonstrations(task) if one else self.runs / "data" / task

    def _train_policy(self, run: Path, *more: object, init: Path | None = None) -> None:
        steps = () if self.action_steps is None else ("--num-steps", self.action_steps)
        self._train("vla", [self._data(t) for t in self.tasks], run, *steps, *more, init=init)

    def _train(
        self, stage: str, data: Sequence[Path], run: Path, *more: object, init: Path | None = None
    ) -> None:
        first, *others = data
        # As many windows of each task, however long it takes.
        shares = [f"{shown(path)}=1" for path in others]
        train(
            *(f"{self.size}_{stage}", "--data", first),
            *(("--more-data", *shares) if shares else ()),
            *(() if init is None else ("--init", init)),
            *more,
            *("--seed", self.seed, "--output", run),
            num_processes=self.num_processes,
        )

    def _evaluate(self, stages: Stages, name: str, run: Path) -> None:
        told = [(self.num_episodes, "", ROLLOUTS)]
        if self.num_in_unseen_words:
            told.append((self.num_in_unseen_words, UNSEEN_WORDS, f"{ROLLOUTS}-{UNSEEN_WORDS}"))
        first = self.first_episode
        for num, shift, folder in told:
            title = f"evaluating the {name} policy on {num} held-out seeds"
            with (
                stages.stage(f"{title}, {shift}" if shift else title),
                timed(self.runs, f"evaluation of {name}"),
                served(final(run), log=self.runs / f"server_of_{name}.log") as address,
            ):
                call(
                    *("sim-client", "evaluate", "--tasks", ",".join(self.tasks)),
                    *("--episodes", f"{first}:{first + num}", "--address", address),
                    *(("--shift", shift) if shift else ()),
                    *("--workers", self.workers, "--policy-name", name),
                    *("--output", self.runs / folder),
                )


def copy_texts(folder: Path) -> None:
    """The project's documentation and source, side by side; what is there already stays."""
    if folder.exists():
        return
    partial = folder.with_name(f".{folder.name}")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    for path in sorted(project_texts()):
        name = "__".join(path.relative_to(PROJECT).parts)
        shutil.copyfile(path, partial / name)
    partial.rename(folder)


def project_texts() -> Iterator[Path]:
    for name in TEXTS:
        for suffix in ("md", "py"):
            yield from (PROJECT / name).rglob(f"*.{suffix}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument(
        "--tasks",
        default="PickAndPlaceBox",
        help="names or sets, separated by commas: `sim-client tasks`",
    )
    parser.add_argument("--size", choices=sorted(CAMERAS), default="tiny", help="of the recipes")
    parser.add_argument(
        "--begin-with",
        type=Path,
        metavar="POLICY",
        help="a checkpoint of a policy of this size, in place of the stages before action",
    )
    parser.add_argument("--action-steps", type=int, help="optimizer steps of the last stage")
    parser.add_argument("--processes", type=int, default=1, help="of a training")
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=50, help="a task")
    parser.add_argument("--first-episode", type=int, default=0)
    parser.add_argument(
        "--unseen-words",
        type=int,
        default=0,
        metavar="EPISODES",
        help="a task, once more, told in phrasings that no demonstration has",
    )
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the three trainings")
    parser.add_argument("--runs", type=Path, default=Path("runs/chain"))
    parser.add_argument(
        "--compare", action="store_true", help="train the last stage from scratch too, and compare"
    )
    parser.add_argument(
        "--only-evaluate", action="store_true", help="the policy in RUNS/vla, as it is"
    )
    options = parser.parse_args()
    if options.only_evaluate and options.compare:
        parser.error("--only-evaluate: not with --compare, which trains")
    if options.begin_with is not None and (options.only_evaluate or options.compare):
        parser.error("--begin-with: not with --only-evaluate or --compare")
    require_beginning(parser, options.begin_with)
    tasks = task_names(parser, options.tasks)
    chain = Chain(
        tasks=tasks,
        size=options.size,
        begin_with=options.begin_with,
        action_steps=options.action_steps,
        num_processes=options.processes,
        first_episode=options.first_episode,
        num_scenes=options.scenes,
        num_demonstrations=options.demonstrations,
        num_episodes=options.episodes,
        num_in_unseen_words=options.unseen_words,
        workers=options.workers,
        runs=options.runs,
        compare=options.compare,
        only_evaluate=options.only_evaluate,
        seed=options.seed,
    )
    return run_in_project(chain.run, folder=options.runs)


if __name__ == "__main__":
    sys.exit(main())
