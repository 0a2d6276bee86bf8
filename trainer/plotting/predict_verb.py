"""`trainer predict`: what policies plan on recorded episodes, beside what the teacher did."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from policy_interface.contract import ContractError
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.checkpoint_files import CheckpointError
from trainer.plotting.errors import PlottingError
from trainer.plotting.gallery import Table, listed
from trainer.plotting.palette import Scheme
from trainer.plotting.planning import Subject, name_of_checkpoint
from trainer.plotting.predictions import prediction_gallery
from trainer.plotting.runs import named_folders
from trainer.plotting.writing import write_gallery
from trainer.requirements import ConfigurationError
from trainer.scarce_memory import memory_told

_DESCRIPTION = """Draw what policies plan on recorded episodes, beside what the teacher did.

A policy is asked for a plan wherever it would replan, and sees what was recorded there: nothing
that it does has consequences. Writes predictions.png and predictions.html: errors by horizon step,
and plans along each episode. Each policy goes by its run's name, or by one given in front of it.

example: trainer predict runs/box --output plots
         trainer predict early=runs/box/checkpoints/step_000300 runs/box --output plots"""

# Of more episodes all errors are counted, but not all plans are drawn.
_MOST_DRAWN = 6


@dataclass(frozen=True, kw_only=True)
class PredictArguments:
    """Which policies, and on what.

    Attributes:
        policies: Checkpoints, or runs that have ended in one, each perhaps with a name in front of
            it: NAME=FOLDER.
        output: The folder to write into; predictions.png and predictions.html there are replaced.
        data: Demonstrations; unless given, those that each policy was trained on.
        episodes: Their numbers in the data set, from 0, separated by commas; unless given, those
            that were held out.
        device: cpu, cuda or cuda:N.
        scheme: Of the PNG; the page follows its reader's.
    """

    policies: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="POLICY [POLICY ...]", help_behavior_hint="(required)"),
    ]
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    data: str | None = None
    episodes: Annotated[str | None, tyro.conf.arg(metavar="N[,N]")] = None
    device: str = "cpu"
    scheme: Scheme = "light"


def run_predict(words: Sequence[str]) -> int:
    """Raises UsageError, PlottingError, DataError, OSError, OutOfMemoryError for what the user can
    mend."""
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            PredictArguments, args=words, prog="trainer predict", description=_DESCRIPTION
        )
    )
    if not parsed.policies:
        raise UsageError("predict: first a checkpoint or a run, such as runs/box")
    asked = None if parsed.episodes is None else _numbers(parsed.episodes)
    folders = named_folders(parsed.policies, name_of_checkpoint)
    with memory_told(parsed.device, _remedies(parsed)):
        return _draw(parsed, folders, asked)


def _draw(
    parsed: PredictArguments, folders: Mapping[str, Path], asked: Sequence[int] | None
) -> int:
    try:
        subjects = [
            Subject.load(name, path, parsed.data, parsed.device) for name, path in folders.items()
        ]
        _require_one_robot(subjects)
        episodes = _chosen(subjects, asked)
        shown = tqdm(subjects, desc="plans", unit="policy", disable=None, leave=False)
        plans = {subject.name: subject.plan(episodes) for subject in shown}
    except (CheckpointError, ConfigurationError, ContractError) as error:
        raise PlottingError(str(error)) from error
    gallery = prediction_gallery(
        plans,
        {number: _heading(subjects, number) for number in episodes[:_MOST_DRAWN]},
        headline=f"{listed(list(plans))} on {Path(subjects[0].recordings.dataset.where).name}",
        tables=[_provenance(subjects, episodes)],
    )
    for file in write_gallery(gallery, parsed.output, "predictions", parsed.scheme):
        print(file)
    return 0


def _remedies(parsed: PredictArguments) -> list[str]:
    """All policies, and all of their plans, are in memory at once."""
    fewer = ["fewer --episodes"]
    return [*fewer, "fewer policies"] if len(parsed.policies) > 1 else fewer


def _numbers(text: str) -> list[int]:
    try:
        return list(dict.fromkeys(int(word) for word in text.split(",")))
    except ValueError as error:
        raise UsageError(
            f"predict: --episodes: expected numbers as in 3,7, got {text!r}"
        ) from error


def _require_one_robot(subjects: Sequence[Subject]) -> None:
    first, *others = subjects
    for other in others:
        if other.recordings.digest != first.recordings.digest:
            raise PlottingError(
                f"{first.name} and {other.name} were trained on different data; say with --data on "
                "which they are to plan"
            )


def _chosen(subjects: Sequence[Subject], asked: Sequence[int] | None) -> list[int]:
    """Numbers of episodes. Raises PlottingError."""
    there = subjects[0].recordings.episodes
    if asked is not None:
        for number in asked:
            if number not in there:
                raise PlottingError(
                    f"--episodes: no episode {number} that succeeded; there are {len(there)}, from "
                    f"{there[0]} to {there[-1]}"
                )
        return list(asked)
    chosen = set(there)
    for subject in subjects:
        if subject.held_out is None:
            raise PlottingError(
                f"{subject.name} was trained on other data, so that nobody knows what it has seen "
                "of these; choose with --episodes, such as 0,1,2"
            )
        chosen &= subject.held_out
    if not chosen:
        raise PlottingError(
            "no episode was held out by all of these policies; choose with --episodes, such as 0,1"
        )
    return sorted(chosen)


def _heading(subjects: Sequence[Subject], number: int) -> str:
    """`Episode 97`, and whether the policies have seen it."""
    seen = [s.name for s in subjects if s.held_out is not None and number not in s.held_out]
    if not seen:
        return f"Episode {number}"
    return f"Episode {number}, on which {', '.join(seen)} was trained"


def _provenance(subjects: Sequence[Subject], episodes: Sequence[int]) -> Table:
    rows = []
    for subject in subjects:
        checkpoint = subject.checkpoint
        seen = "unknown: trained on other data"
        if subject.held_out is not None:
            seen = (
                f"{sum(number not in subject.held_out for number in episodes)} of {len(episodes)}"
            )
        rows.append(
            [
                subject.name,
                f"{checkpoint.provenance.get('optimizer_step', 'unknown')}",
                seen,
                subject.recordings.dataset.where,
                (checkpoint.digest or "")[:12],
            ]
        )
    return Table(
        heading="Policies",
        head=[
            "Policy",
            "Optimizer step",
            "Of these episodes trained on",
            "Episodes of",
            "SHA-256 begins",
        ],
        rows=rows,
        series=range(len(rows)),
    )
