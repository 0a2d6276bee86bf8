"""One evaluation under several conditions: success as a function of latency, or of shift.

Each condition is an evaluation of its own, in a folder of its own, resumable and exactly once like
any other; `sweep.json` holds the curve.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import tyro

from sim_client.evaluation import runner
from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.station import OUR_STATION
from step_analysis.atomic_file import write_atomically
from step_analysis.ledger import (
    DESIGN_FILE_NAME,
    LEDGER_FILE_NAME,
    latest_outcomes,
    read_design,
    read_ledger,
)
from step_analysis.rollouts import Outcome
from step_analysis.wilson_interval import wilson

SWEEP_FILE = "sweep.json"
SWEEP_SCHEMA = "assay.sweep/1"


@dataclass(frozen=True, kw_only=True)
class SweepConfig:
    """Evaluate a served policy under each of several latencies and shifts."""

    evaluation: Annotated[EvaluationConfig, tyro.conf.arg(name="")]
    latencies_ms: Annotated[str, tyro.conf.arg(metavar="MS[,MS]")] = ""
    """Latencies in simulated time, such as 0,50,100,200,400."""
    shifts: Annotated[str, tyro.conf.arg(metavar="SHIFT[;SHIFT]")] = ""
    """Shifts, separated by semicolons: nominal;lighting=high;camera=medium,lighting=low."""

    def __post_init__(self) -> None:
        if self.evaluation.latency_ms and self.latencies_ms:
            raise UsageError("--latency-ms and --latencies-ms: expected one of them")
        if self.evaluation.shift and self.shifts:
            raise UsageError("--shift and --shifts: expected one of them")
        if not (self.latencies_ms or self.shifts):
            raise UsageError("expected --latencies-ms or --shifts: without them, use evaluate")
        conditions = list(self.conditions())
        if len({condition.name for condition in conditions}) < len(conditions):
            raise UsageError("--latencies-ms, --shifts: a condition is named twice")

    def conditions(self) -> Iterator[Condition]:
        """Every latency with every shift, in the order given."""
        for shift in _split(self.shifts, ";") or [self.evaluation.shift]:
            for text in _split(self.latencies_ms, ",") or [f"{self.evaluation.latency_ms:g}"]:
                yield Condition(shift="" if shift == "nominal" else shift, latency_ms=_ms(text))


@dataclass(frozen=True, kw_only=True)
class Condition:
    """shift: its levels, nominal where empty."""

    shift: str
    latency_ms: float

    @property
    def name(self) -> str:
        """Its folder's."""
        shift = self.shift.replace("=", "-").replace(",", "_") or "nominal"
        return f"{shift}-{self.latency_ms:g}ms"


def run(config: SweepConfig, *, station_factory: str = OUR_STATION) -> int:
    """Evaluate under each condition, then say how success depends on it.

    Returns the first exit code that is not 0; the same command goes on from there.
    """
    root = config.evaluation.output
    conditions = list(config.conditions())
    for i, condition in enumerate(conditions):
        print(f"[{i + 1}/{len(conditions)}] {condition.name}", flush=True)
        evaluation = replace(
            config.evaluation,
            shift=condition.shift,
            latency_ms=condition.latency_ms,
            output=root / condition.name,
        )
        code = runner.run(
            evaluation, station_factory=station_factory, more_to_come=i + 1 < len(conditions)
        )
        if code:
            return code
    points = [point for each in conditions for point in _points(root / each.name, each)]
    curve = {"schema": SWEEP_SCHEMA, "points": points}
    write_atomically(root / SWEEP_FILE, json.dumps(curve, indent=2) + "\n")
    _show(points)
    print(f"the curve: {root / SWEEP_FILE}")
    return runner.DONE


def _points(folder: Path, condition: Condition) -> Iterator[dict[str, Any]]:
    """One point a policy and task: of each episode the latest attempt, errors not counted."""
    for ledger in sorted(folder.glob(f"*/{LEDGER_FILE_NAME}")):
        latest = latest_outcomes(read_ledger(ledger)).values()
        design = read_design(ledger.parent / DESIGN_FILE_NAME)
        for task in design.tasks:
            decided = [each for each in latest if each.task == task and each.outcome.counts]
            progress = [each.progress for each in decided if each.progress is not None]
            yield {
                "policy": design.policy,
                "task": task,
                "shift": condition.shift or "nominal",
                "latency_ms": condition.latency_ms,
                "num_episodes": len(decided),
                "num_successes": sum(each.outcome is Outcome.SUCCESS for each in decided),
                "mean_progress": sum(progress) / len(progress) if progress else None,
            }


def _show(points: list[dict[str, Any]]) -> None:
    width = max(len(point["task"]) for point in points)
    shift_width = max(len(point["shift"]) for point in points)
    for point in points:
        successes, num = point["num_successes"], point["num_episodes"]
        rate = "no episode decided"
        if num:
            interval = wilson(successes, num)
            rate = (
                f"{100 * successes / num:5.1f} %  "
                f"({100 * interval.lower:.0f} to {100 * interval.upper:.0f} %)"
            )
        print(
            f"{point['task']:{width}}  {point['shift']:{shift_width}}  "
            f"{point['latency_ms']:5g} ms  {successes:4}/{num:<4}  {rate}"
        )


def _split(text: str, separator: str) -> list[str]:
    return [word.strip() for word in text.split(separator) if word.strip()]


def _ms(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0.0 <= value < float("inf"):
        raise UsageError(f"--latencies-ms {text!r}: expected milliseconds, such as 0,100,200")
    return value
