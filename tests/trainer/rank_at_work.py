"""One rank of a test, started by torchrun: trains what its plan lists, and notes how that went.

A plan is JSON lines: a run's arguments, and what becomes of one rank in a step: a signal after it,
"spoil", a loss in it that is no number, "drift", weights that are its own from there on,
"end_torchrun", SIGTERM to torchrun, which passes it on to all ranks, or "die_saving", its end as it
saves; "dawdle", batches that take it a quarter of a second each from there on; "release", that at
its so many-th look at the others since a step it lets go the simulator that stands at a pipe beside
the programs; or, of all ranks, "unshared", a stage that knows nothing of them. programs: where
those that evaluate are looked for first.
"""

from __future__ import annotations

import json
import math
import os
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

from trainer import run_directory
from trainer.command_line import main
from trainer.distributed import World
from trainer.learner import Learner
from trainer.stages.policy import PolicyStage
from trainer.stages.text_batches import TextBatches
from trainer.state_files import write_parts


def work(plan: Path) -> int:
    rank = int(os.environ["RANK"])
    take_step, look, make = Learner.step, World.any, TextBatches.share
    exit_code = 0
    # By it torchrun ends the one that is left of two, which has yet to note how it fared. While it
    # trains, it has a handler of its own.
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    for line in plan.read_text().splitlines():
        run = json.loads(line)
        losses: list[float] = []
        looks = [0]

        def step_and_act(
            self: Learner, batch, step, generator, run=run, losses=losses, looks=looks
        ):
            looks[0] = 0
            due = (rank, step + 1) == (run["rank"], run["step"])
            if due and run["act"] == "spoil":
                batch = replace(batch, num_learnt=math.nan)
            result = take_step(self, batch, step, generator)
            losses.append(result.loss)
            if due and run["act"] == "drift":
                next(self.network.parameters()).data.add_(1e-6)
            if due and run["act"] == "end_torchrun":
                end_torchrun()
            if due and run["act"] in signal.Signals.__members__:
                signal.raise_signal(signal.Signals[run["act"]])
            return result

        def save_or_die(tensors, folder, group, run=run):
            due = (rank, folder.name) == (run["rank"], f".step_{run['step']:06d}.partial")
            if due and run["act"] == "die_saving":
                signal.raise_signal(signal.SIGKILL)
            write_parts(tensors, folder, group)

        def look_and_release(self: World, flag: bool, run=run, looks=looks) -> bool:
            looks[0] += 1
            due = run["act"] == "release" and (rank, looks[0]) == (run["rank"], run["step"])
            if due:
                pipe = Path(run["programs"], "held")
                with pipe.open("w"):
                    pipe.unlink()
            return look(self, flag)

        def make_slowly(self: TextBatches, step: int, world: World, run=run):
            share = make(self, step, world)
            if run["act"] == "dawdle" and rank == run["rank"] and step + 1 >= run["step"]:
                until = time.thread_time() + 0.25
                while time.thread_time() < until:
                    share = make(self, step, world)
            return share

        TextBatches.share = make_slowly  # type: ignore[method-assign]
        if "programs" in run:
            sys.executable = str(Path(run["programs"], "python"))
        World.any = look_and_release  # type: ignore[method-assign]
        run_directory.write_parts = save_or_die
        Learner.step = step_and_act  # type: ignore[method-assign]
        PolicyStage.knows_ranks = run["act"] != "unshared"
        exit_code = main(["train", *run["arguments"]])
        with plan.with_name(f"notes_{rank}.jsonl").open("a") as notes:
            notes.write(json.dumps({"exit_code": exit_code, "losses": losses}) + "\n")
    return exit_code


def end_torchrun() -> None:
    """Returns as soon as this rank was told, too."""
    told, tells = os.pipe()
    os.set_blocking(tells, False)
    before = signal.set_wakeup_fd(tells)
    os.kill(os.getppid(), signal.SIGTERM)
    while os.read(told, 1)[0] != signal.SIGTERM:
        pass
    signal.set_wakeup_fd(before)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1])))
