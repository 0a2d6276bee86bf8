"""docs/results.md and its figures, drawn from the ledgers in docs/results: `make results`.

    python examples/results.py                              # draw the page again
    python examples/results.py collect one_task runs/policies/PickAndPlaceBox

collects a run's folder as `examples/policies.py` or `examples/chain.py` leaves it: its training and
every evaluation in it that is at its end. The ledgers are what is kept; runs are not.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path

from results_ledger import Result, Training, read_evaluations, write_result
from results_page import GROUPS, draw
from stages import PROJECT, SECONDS_FILE

from sim_client.tasks.catalog import TASKS
from step_analysis.atomic_file import write_atomically
from trainer.plotting.runs import read_runs
from trainer.run_directory import RunDirectory

LEDGERS = PROJECT / "docs" / "results"


def collect(run: Path) -> Result:
    """What a folder of `examples/policies.py` or `examples/chain.py` holds, a training perhaps
    missing; or a training. Where there is one, evaluations of other policies are left out."""
    trainings = (run, run / "training", run / "vla")
    training = next((each for each in trainings if (each / "config.json").exists()), None)
    # A baseline's folder is named after its recipe, and lies in its task's.
    recipe = run.name if run.parent.name in TASKS else ""
    evaluations = list(read_evaluations(run))
    if training is not None:
        evaluations = [each for each in evaluations if each.policy_digest == _digest(training)]
    return Result(
        name=f"{run.parent.name}-{recipe}" if recipe else run.name,
        training=None if training is None else read_training(training, run / SECONDS_FILE),
        evaluations=evaluations,
    )


def _digest(training: Path) -> str:
    """As a server states its checkpoint's."""
    manifest = RunDirectory(root=training).final_checkpoint / "MANIFEST.json"
    return hashlib.sha256(manifest.read_bytes()).hexdigest()


def read_training(folder: Path, seconds: Path) -> Training:
    """Of a training that is at its end."""
    (run,) = read_runs([str(folder)], warn=lambda line: print(line, file=sys.stderr))
    config = run.config
    told = json.loads((RunDirectory(root=folder).final_checkpoint / "provenance.json").read_text())
    assert config is not None
    error = run.scalars["validation/position_mm"]
    curve = zip(error.steps.tolist(), error.values.tolist(), strict=True)
    return Training(
        recipe=config.name,
        task=", ".join(told["tasks"]),
        num_demonstrations=told["num_episodes"],
        num_frames=told["num_frames"],
        data_sha256=told["data_sha256"],
        num_steps=told["total_steps"],
        batch_size=config.batch_size,
        num_threads=config.num_threads or 1,
        seed=told["seed"],
        training_s=told["training_s"],
        curve={str(step): round(value, 2) for step, value in curve},
        seconds={
            **_seconds_before(folder),
            **(json.loads(seconds.read_text()) if seconds.exists() else {}),
        },
        git_sha=told["git_sha"] or "",
        versions=told["versions"],
    )


def _seconds_before(folder: Path) -> dict[str, dict[str, float]]:
    """Of the trainings that its weights come from, by their kind, as far as they are still there.

    folder: a training's or a checkpoint's.
    """
    init = json.loads((folder / "config.json").read_text()).get("init")
    # A stage of the chain names it from the project's folder.
    before = PROJECT / (init or "")
    if not init or not (before / "provenance.json").exists():
        return {}
    kind = json.loads((before / "config.json").read_text())["kind"]
    told = json.loads((before / "provenance.json").read_text())
    return {**_seconds_before(before), kind: {"wall_s": told["training_s"]}}


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    verbs = parser.add_subparsers(dest="verb")
    collecting = verbs.add_parser("collect", help="keep what runs came to, then draw the page")
    collecting.add_argument("group", choices=GROUPS)
    collecting.add_argument("runs", type=Path, nargs="+")
    options = parser.parse_args()
    if options.verb == "collect":
        for run in options.runs:
            print(write_result(LEDGERS / options.group, collect(run.resolve())))
    for path, content in draw(LEDGERS).items():
        target = PROJECT / "docs" / path
        target.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(target, content)
        print(target.relative_to(PROJECT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
