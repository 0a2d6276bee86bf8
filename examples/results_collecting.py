"""What is kept of a run's folder in docs/results: its training, and what was evaluated of it."""

from __future__ import annotations

import hashlib
import json
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from results_ledger import (
    CHAIN,
    LEDGERS,
    OTHERS,
    TOGETHER,
    Result,
    Training,
    read_evaluations,
    read_results,
)
from results_pretraining import Comparison, PretrainingResult
from stages import PROJECT, SECONDS_FILE

from sim_client.tasks.catalog import TASKS
from step_analysis.ledger import STUDY_FILE_NAME
from step_analysis.study.folder import read_study
from step_analysis.study.reporting import study_difference
from step_analysis.study.study import Study
from trainer.plotting.runs import read_runs
from trainer.run_directory import RunDirectory

_CONFIDENCE = 0.95


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


def collect_pretraining(runs: Path) -> Iterator[PretrainingResult]:
    """The studies that are at their end, of a folder of `examples/pretraining.py`."""
    for path in sorted(runs.glob(f"seed-*/studies/*/{STUDY_FILE_NAME}")):
        study, seed = read_study(path.parent), path.parents[2]
        if not study.standing().is_finished:
            continue
        design = study.design
        yield PretrainingResult(
            name=f"{seed.name}-{path.parent.name}",
            shift=path.parent.name,
            max_episodes=design.max_episodes,
            alpha=design.alpha,
            trainings={
                policy.name: read_training(seed / policy.name, seed / SECONDS_FILE)
                for policy in design.policies
            },
            comparisons=list(_comparisons(study)),
        )


def _comparisons(study: Study) -> Iterator[Comparison]:
    for each in study.standing().comparisons:
        difference = study_difference(study, each, _CONFIDENCE)
        assert difference.value is not None
        assert difference.interval is not None
        yield Comparison(
            tasks=list(each.tasks),
            policies=list(each.arms),
            successes=[int(study.tape.read(arm, each.tasks, each.time).sum()) for arm in each.arms],
            episodes=each.time,
            winner=each.winner,
            points=round(100 * difference.value, 2),
            lower=round(100 * difference.interval.lower, 2),
            upper=round(100 * difference.interval.upper, 2),
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
            **_seconds_before(folder, told),
            **(json.loads(seconds.read_text()) if seconds.exists() else {}),
        },
        git_sha=told["git_sha"] or "",
        versions=told["versions"],
    )


def _seconds_before(folder: Path, told: Mapping[str, Any]) -> dict[str, dict[str, float]]:
    """Of the trainings that a training's weights come from, by their kind, as far as they are kept
    in the repository or still there.

    folder: the training's, or its checkpoint's. told: its provenance.
    """
    # Of what is kept before what there is: where a policy that ships lay, or one that it began
    # with, there may be another by now.
    of_data = (told.get("data_sha256"), told["training_s"])
    for result in (each for group in (TOGETHER, OTHERS) for each in read_results(LEDGERS / group)):
        kept = result.training
        if kept is not None and (kept.data_sha256, kept.training_s) == of_data:
            return {kind: dict(kept.seconds[kind]) for kind in CHAIN if kind in kept.seconds}
    init = json.loads((folder / "config.json").read_text()).get("init")
    # A stage of the chain names it from the project's folder.
    before = PROJECT / (init or "")
    if not init or not (before / "provenance.json").exists():
        return {}
    kind = json.loads((before / "config.json").read_text())["kind"]
    told_before = json.loads((before / "provenance.json").read_text())
    earlier = _seconds_before(before, told_before)
    # A policy may have begun with one that had begun with one.
    wall_s = told_before["training_s"] + earlier.get(kind, {"wall_s": 0.0})["wall_s"]
    return {**earlier, kind: {"wall_s": wall_s}}
