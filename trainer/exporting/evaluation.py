"""A policy's evaluation, as an evaluation's ledger or a report of step-analysis tells it.

    ledger.jsonl    one line an attempt; the design, with the checkpoint's digest, in
                    evaluation.json beside it
    report.json     counts and intervals of one or several policies

Both are read by their files alone: the trainer knows neither the runner nor the statistics.
"""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist
from typing import Any

from trainer.exporting.errors import ExportError

LEDGER_FILE, DESIGN_FILE, REPORT_FILE = "ledger.jsonl", "evaluation.json", "report.json"

_MAX_BYTES = 64 * 2**20
_LEDGER_VERSIONS = (1, 2)
_REPORT_VERSION = 2
_DESIGN_VERSION = 1
_CONFIDENCE = 0.95
_OUTCOMES = ("success", "failure", "timeout", "error")
_DIGEST_FACT, _STATION_FACT = "Checkpoint digest", "Station: "
# What a file of another shape makes its reader raise.
_MALFORMED = (LookupError, TypeError, ValueError, AttributeError, OverflowError, RecursionError)
_SETTINGS = ("simulator", "shift", "latency_ms")


@dataclass(frozen=True, kw_only=True)
class TaskResult:
    """num_episodes: those with an outcome. num_errors: those that could not be run. num_missing:
    planned ones without an outcome, None where the plan is not known. interval: of the rate; None
    without an episode."""

    task: str
    successes: int
    num_episodes: int
    num_errors: int
    num_missing: int | None
    interval: tuple[float, float] | None


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """interval: the method's name. confidence: its coverage. setting: what it ran in, by name.
    has_digest: whether it says itself that it is of this very checkpoint, not of its name alone."""

    tasks: tuple[TaskResult, ...]
    interval: str
    confidence: float
    setting: Mapping[str, str]
    has_digest: bool


def read_evaluation(path: Path, *, name: str, digest: str) -> Evaluation:
    """Of the policy of that name and checkpoint. path: a ledger, a report.json, or a folder of one.

    Raises ExportError for a file that is none, and for an evaluation of another checkpoint.
    """
    if path.is_dir():
        inside = [path / each for each in (LEDGER_FILE, REPORT_FILE) if (path / each).is_file()]
        if len(inside) != 1:
            raise ExportError(
                f"--evaluation {path}: expected {LEDGER_FILE} or {REPORT_FILE} in this folder, "
                f"got {[each.name for each in inside] or 'neither'}; name the file"
            )
        (path,) = inside
    try:
        if path.suffix == ".jsonl":
            return _of_ledger(path, name, digest)
        return _of_report(path, name, digest)
    except (
        LookupError,
        TypeError,
        ValueError,
        AttributeError,
        OverflowError,
        RecursionError,
    ) as error:
        if isinstance(error, ExportError):
            raise
        raise ExportError(
            f"--evaluation {path}: no ledger or report.json that this version reads: {error!r:.200}"
        ) from error


def wilson(successes: int, num_episodes: int, confidence: float) -> tuple[float, float]:
    """Wilson's score interval of a rate. Source: Wilson, JASA 22 (1927)."""
    z = NormalDist().inv_cdf(0.5 + confidence / 2)
    rate, shrink = successes / num_episodes, 1 + z * z / num_episodes
    centre = (rate + z * z / (2 * num_episodes)) / shrink
    spread = rate * (1 - rate) / num_episodes + (z / (2 * num_episodes)) ** 2
    half = z * math.sqrt(spread) / shrink
    # At the ends the bound is exactly 0 or 1, which rounding would miss.
    return (
        centre - half if successes else 0.0,
        centre + half if successes < num_episodes else 1.0,
    )


def _of_ledger(path: Path, name: str, digest: str) -> Evaluation:
    design = _read_design(path.parent / DESIGN_FILE)
    records = list(_records(path))
    policies = sorted({str(each["policy"]) for each in records})
    if not records:
        raise ExportError(f"--evaluation {path}: expected episodes, got an empty ledger")
    found = None if design is None else str(design["policy_digest"])
    _chosen(path, dict.fromkeys(policies, found), name, digest)
    if len(policies) != 1:
        raise ExportError(f"--evaluation {path}: expected one policy's episodes, got {policies}")
    planned = None if design is None else int(design["num_episodes"])
    outcomes: dict[str, dict[int, str]] = defaultdict(dict)
    for each in records:
        task, scenario, outcome = _text(each["task"]), int(each["scenario_index"]), each["outcome"]
        if outcome not in _OUTCOMES:
            raise ValueError(f"outcome: expected one of {_OUTCOMES}, got {outcome!r:.40}")
        if outcomes[task].get(scenario, "error") != "error" and outcome != "error":
            raise ValueError(f"{task}, scenario {scenario}: two outcomes; expected one")
        if outcome != "error" or scenario not in outcomes[task]:
            outcomes[task][scenario] = outcome
    station = {} if design is None else dict(design["station"])
    return Evaluation(
        tasks=tuple(_counted(task, outcomes[task], planned) for task in sorted(outcomes)),
        interval="Wilson",
        confidence=_CONFIDENCE,
        setting={key: str(station[key]) for key in _SETTINGS if station.get(key)},
        has_digest=found is not None,
    )


def _counted(task: str, outcomes: Mapping[int, str], planned: int | None) -> TaskResult:
    counts = [outcome for outcome in outcomes.values() if outcome != "error"]
    successes, num_episodes = counts.count("success"), len(counts)
    return TaskResult(
        task=task,
        successes=successes,
        num_episodes=num_episodes,
        num_errors=len(outcomes) - num_episodes,
        num_missing=None if planned is None else max(0, planned - num_episodes),
        interval=wilson(successes, num_episodes, _CONFIDENCE) if counts else None,
    )


def _records(path: Path) -> Iterator[dict[str, Any]]:
    content = _read(path)
    # What a kill left of a last line has no end, and is no record.
    for line in content[: content.rfind(b"\n") + 1].splitlines():
        record = _object(line)
        if record.get("version") not in _LEDGER_VERSIONS:
            raise ValueError(f"record: version {record.get('version')!r:.40} is not known here")
        yield record


def _read_design(path: Path) -> dict[str, Any] | None:
    if not path.is_file():
        return None
    design = _object(_read(path))
    if design.get("version") != _DESIGN_VERSION:
        raise ValueError(f"{path.name}: version {design.get('version')!r:.40} is not known here")
    return design


def _of_report(path: Path, name: str, digest: str) -> Evaluation:
    report = _object(_read(path))
    if report.get("version") != _REPORT_VERSION:
        raise ValueError(f"version {report.get('version')!r:.40} is not known here")
    shared = _facts(report["shared_facts"])
    facts = {_text(each["policy"]): shared | _facts(each["facts"]) for each in report["provenance"]}
    digests = {policy: told.get(_DIGEST_FACT) for policy, told in facts.items()}
    policy = _chosen(path, digests, name, digest)
    tasks = [
        _row(_text(panel["tasks"][0]), row)
        for panel in report["panels"]
        if len(panel["tasks"]) == 1
        for row in panel["rates"]
        if row["policy"] == policy
    ]
    if not tasks:
        raise ExportError(f"--evaluation {path}: expected tasks of {policy!r}, got none")
    told = {key: facts[policy].get(_STATION_FACT + key) for key in _SETTINGS}
    return Evaluation(
        tasks=tuple(sorted(tasks, key=lambda each: each.task)),
        interval="Clopper-Pearson",
        confidence=_fraction(report["confidence"]),
        setting={key: value for key, value in told.items() if value},
        has_digest=digests[policy] is not None,
    )


def _row(task: str, row: Mapping[str, Any]) -> TaskResult:
    successes, num_episodes = int(row["successes"]), int(row["num_counted"])
    if not 0 <= successes <= num_episodes:
        raise ValueError(f"{task}: {successes} successes of {num_episodes} episodes")
    bounds = row["clopper_pearson"]
    return TaskResult(
        task=task,
        successes=successes,
        num_episodes=num_episodes,
        num_errors=int(row["num_errors"]),
        num_missing=int(row["num_missing"]),
        interval=None if bounds is None else (_fraction(bounds[0]), _fraction(bounds[1])),
    )


def _chosen(path: Path, digests: Mapping[str, str | None], name: str, digest: str) -> str:
    """The policy that is this checkpoint: by its digest, or by its name where none is told."""
    found = [policy for policy, told in digests.items() if told == digest]
    found = found or [policy for policy, told in digests.items() if told is None and policy == name]
    if len(found) != 1:
        got = [f"{policy} ({(told or 'no digest')[:12]})" for policy, told in digests.items()]
        raise ExportError(
            f"--evaluation {path}: expected one policy that is this checkpoint, {name} "
            f"({digest[:12]}), got {got}"
        )
    return found[0]


def _facts(pairs: Sequence[Sequence[str]]) -> dict[str, str]:
    return {_text(label): _text(value) for label, value in pairs}


def _read(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > _MAX_BYTES:
            raise ExportError(f"--evaluation {path}: {size} bytes, more than {_MAX_BYTES}")
        return path.read_bytes()
    except OSError as error:
        raise ExportError(f"--evaluation {path}: cannot be read: {error.strerror}") from error


def _object(text: bytes) -> dict[str, Any]:
    value = json.loads(text.decode())
    if not isinstance(value, dict):
        raise ValueError(f"expected an object, got {value!r:.40}")
    return value


def _text(value: object) -> str:
    if not isinstance(value, str):
        raise ValueError(f"expected text, got {value!r:.40}")
    return value


def _fraction(value: object) -> float:
    if isinstance(value, int | float) and 0 <= value <= 1:
        return float(value)
    raise ValueError(f"expected a number from 0 to 1, got {value!r:.40}")
