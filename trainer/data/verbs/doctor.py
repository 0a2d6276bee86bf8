"""`trainer data doctor`."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import tyro
from tqdm import tqdm

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.data.doctor.content import shared_findings
from trainer.data.doctor.examination import Examination, examine
from trainer.data.doctor.examined import DEFAULT_FRAME_PAIRS
from trainer.data.doctor.finding import Finding, Severity, most_severe_first
from trainer.data.doctor.report import told, verdict
from trainer.data.formats.catalog import open_dataset

_DESCRIPTION = """Find what ruins policies, before they are trained.

Says of each fault where it is, what was measured, what it costs and how to mend it. Exits with 1
where a finding is as bad as --fail-on says.

example: trainer data doctor demos/PickAndPlaceBox
         trainer data doctor --train data/train --validation data/held_out --fail-on warning"""


@dataclass(frozen=True, kw_only=True)
class DoctorArguments:
    """What to examine.

    Attributes:
        source: Folder or file of episodes, in any known format.
        train: With --validation: the training data. Both are examined.
        validation: Data that must share no episode with --train.
        source_format: The format, where it is not recognised.
        frames: How many pairs of neighbouring frames a camera and episode are decoded.
        fail_on: Exit with 1 from this severity on.
        json: Print one JSON object.
    """

    source: tyro.conf.Positional[Annotated[str | None, tyro.conf.arg(metavar="SOURCE")]] = None
    train: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    validation: Annotated[str | None, tyro.conf.arg(metavar="FOLDER")] = None
    source_format: Annotated[str | None, tyro.conf.arg(name="from", metavar="FORMAT")] = None
    frames: int = DEFAULT_FRAME_PAIRS
    fail_on: Literal["warning", "error"] = "error"
    json: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False


def main(arguments: Sequence[str]) -> int:
    """Raises DataError for data that cannot be opened, UsageError for bad usage."""
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            DoctorArguments,
            args=arguments,
            prog="trainer data doctor",
            description=_DESCRIPTION,
        )
    )
    if (parsed.train is None) is not (parsed.validation is None):
        raise UsageError("doctor: --train and --validation go together")
    if (parsed.source is None) is (parsed.train is None):
        raise UsageError("doctor: give a source, or --train and --validation")
    if parsed.frames < 0:
        raise UsageError(f"doctor: --frames: expected 0 or more, got {parsed.frames}")
    examinations = [
        _examine(source, parsed)
        for source in (parsed.source, parsed.train, parsed.validation)
        if source is not None
    ]
    between: list[Finding] = []
    if parsed.train is not None:
        train, held = examinations
        between = most_severe_first(shared_findings(train.fingerprints, held.fingerprints))
    findings = [finding for one in examinations for finding in one.findings] + between
    if parsed.json:
        print(
            json.dumps(
                {
                    "data_sets": [one.to_json() for one in examinations],
                    "between_train_and_validation": [one.to_json() for one in between],
                },
                indent=2,
            )
        )
    else:
        for one in examinations:
            _print(_report(one))
        if between:
            _print(told(between, len(examinations[1].fingerprints)))
        print(verdict(findings))
    level = Severity(parsed.fail_on)
    return int(any(finding.severity.reaches(level) for finding in findings))


def _print(lines: Iterator[str]) -> None:
    print("\n".join(map(printable, lines)))


def _examine(source: str, parsed: DoctorArguments) -> Examination:
    dataset = open_dataset(source, parsed.source_format)

    def progress(indices: range) -> tqdm[int]:
        return tqdm(
            indices,
            desc=f"examining {dataset.where}",
            unit="episode",
            leave=False,
            file=sys.stderr,
            disable=None,
        )

    return examine(dataset, frame_pairs=parsed.frames, progress=progress)


def _report(examination: Examination) -> Iterator[str]:
    yield (
        f"{examination.where}: {examination.num_episodes} episodes, {examination.num_steps} steps; "
        f"{examination.num_frames_seen} of {examination.num_frames} frames looked at"
    )
    yield ""
    yield from told(examination.findings, examination.num_episodes)
