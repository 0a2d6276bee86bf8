"""The main job from end to end, on this machine: `make demo`.

Records scripted demonstrations in the Drake simulation, trains an image-conditioned policy on
them, serves it over gRPC, evaluates it, an early checkpoint of the same run and the policy for all
tasks that ships closed loop on held-out seeds, and reports which are better. Every step is one of
the project's own verbs, printed as you would type it. Each reuses what is there, so a second run,
or one after Ctrl-C, goes on.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages import PROJECT, Stages, call, run_in_project, served


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
        stages = Stages(num=6)
        demonstrations = self.runs / "demonstrations"
        training = self.runs / "training"
        rollouts = self.runs / "rollouts"
        with stages.stage(f"{self.num_demonstrations} demonstrations by a scripted expert"):
            call(
                *("sim-client", "demos", "--task", self.task),
                *("--num", self.num_demonstrations, "--workers", self.workers),
                *("--cameras", ",".join(self.cameras), "--output", demonstrations),
            )
        with stages.stage("training a policy on them"):
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
            # It has seen no more of this task than of fifteen others, and is told which it is.
            "all_tasks": PROJECT / "docker" / "all-tasks-checkpoint",
        }
        for name, checkpoint in policies.items():
            with (
                stages.stage(f"evaluating the {name} policy on {self.num_episodes} held-out seeds"),
                served(checkpoint, log=self.runs / f"server_of_{name}.log") as address,
            ):
                call(
                    *("sim-client", "evaluate", "--tasks", self.task),
                    *("--episodes", f"0:{self.num_episodes}", "--address", address),
                    *("--workers", self.workers, "--policy-name", name, "--output", rollouts),
                )
        with stages.stage("the report"):
            call("step-analysis", "report", rollouts, "--output", self.report)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--demonstrations", type=int, default=100)
    parser.add_argument("--episodes", type=int, default=50)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--runs", type=Path, default=Path("runs/demo"))
    parser.add_argument("--report", type=Path, default=Path("report"))
    options = parser.parse_args()
    demo = Demo(
        task="PickAndPlaceBox",
        recipe="pick_and_place_box",
        num_demonstrations=options.demonstrations,
        num_episodes=options.episodes,
        early_step=100,
        workers=options.workers,
        runs=options.runs,
        report=options.report,
        # Those that the recipe looks at: others would only take time to render.
        cameras=("scene_right_0", "wrist_right_minus"),
    )
    return run_in_project(demo.run, folder=options.runs)


if __name__ == "__main__":
    sys.exit(main())
