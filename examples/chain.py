"""Language, then vision and language, then action, on this machine: `make chain`.

A language model learns from the project's own text, goes on to answer about pictures of simulated
scenes, and becomes a policy that is told what to do; the policy is served and evaluated closed
loop. With `--compare` the last stage is trained from scratch too, on the same data and for as many
steps, and a report says whether the stages before it helped. Each step reuses what is there, so a
second run, or one after Ctrl-C, goes on.
"""

from __future__ import annotations

import argparse
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from stages import PROJECT, Stages, call, run_in_project, served

TASK = "PickAndPlaceBox"
TEXTS = ("docs", "proto", "trainer", "policy_server", "sim_client", "step_analysis")


@dataclass(frozen=True, kw_only=True)
class Chain:
    """What to run and where; the defaults are those of docs/training.md."""

    num_scenes: int
    num_demonstrations: int
    num_episodes: int
    workers: int
    runs: Path
    compare: bool
    seed: int

    def run(self) -> None:
        stages = Stages(num=9 if self.compare else 6)
        runs = self.runs
        texts, scenes, demonstrations = (runs / name for name in ("texts", "scenes", "demos"))
        with stages.stage("a language model, of the project's documentation and source"):
            copy_texts(texts)
            self._train("tiny_lm", texts, runs / "lm")
        with stages.stage(f"{self.num_scenes} scenes, drawn, with questions about them"):
            if not scenes.exists():
                call("sim-client", "captions", "--scenes", self.num_scenes, "--output", scenes)
        with stages.stage("teaching it to see"):
            self._train("tiny_vlm", scenes, runs / "vlm", init=final(runs / "lm"))
        with stages.stage(f"{self.num_demonstrations} demonstrations by a scripted expert"):
            call(
                *("sim-client", "demos", "--task", TASK, "--num", self.num_demonstrations),
                *("--cameras", "scene_right_0,wrist_right_minus"),
                *("--workers", self.workers, "--output", demonstrations),
            )
        with stages.stage("teaching it to act"):
            self._train("tiny_vla", demonstrations, runs / "vla", init=final(runs / "vlm"))
        self._evaluate(stages, "pretrained", runs / "vla")
        if not self.compare:
            return
        with stages.stage("the same, from scratch"):
            self._train("tiny_vla", demonstrations, runs / "from_scratch")
        self._evaluate(stages, "from_scratch", runs / "from_scratch")
        with stages.stage("the report"):
            call("step-analysis", "report", runs / "rollouts", "--output", runs / "report")

    def _train(self, recipe: str, data: Path, run: Path, *, init: Path | None = None) -> None:
        begun = () if init is None else ("--init", init)
        call(
            *("trainer", "train", recipe, "--data", data, *begun),
            *("--seed", self.seed, "--output", run),
        )

    def _evaluate(self, stages: Stages, name: str, run: Path) -> None:
        with (
            stages.stage(f"evaluating the {name} policy on {self.num_episodes} held-out seeds"),
            served(final(run), log=self.runs / f"server_of_{name}.log") as address,
        ):
            call(
                *("sim-client", "evaluate", "--tasks", TASK),
                *("--episodes", f"0:{self.num_episodes}", "--address", address),
                *("--workers", self.workers, "--policy-name", name),
                *("--output", self.runs / "rollouts"),
            )


def final(run: Path) -> Path:
    return run / "checkpoints" / "final"


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
    parser.add_argument("--scenes", type=int, default=600)
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0, help="of the three trainings")
    parser.add_argument("--runs", type=Path, default=Path("runs/chain"))
    parser.add_argument(
        "--compare", action="store_true", help="train the last stage from scratch too, and compare"
    )
    options = parser.parse_args()
    chain = Chain(
        num_scenes=options.scenes,
        num_demonstrations=options.demonstrations,
        num_episodes=options.episodes,
        workers=options.workers,
        runs=options.runs,
        compare=options.compare,
        seed=options.seed,
    )
    return run_in_project(chain.run, folder=options.runs)


if __name__ == "__main__":
    sys.exit(main())
