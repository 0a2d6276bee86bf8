"""vla-eval's result JSON: one benchmark, its tasks, their episodes.

Format: `BenchmarkResult`, `TaskResult` and `EpisodeResult` in `results/collector.py` below
`src/vla_eval/` of github.com/allenai/vla-evaluation-harness, written by its `orchestrator.py` (a
file a shard) and `results/merge.py` (`*_aggregate.json`). An episode with a `failure_reason` (a
lost connection, a server's timeout, an exception) met an error, which the harness counts as a
failure.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_analysis.reading.fields import (
    checked_list,
    checked_object,
    checked_success,
    checked_text,
    episode_range,
)
from step_analysis.reading.source import PolicySource, flattened
from step_analysis.rollouts import Outcome, RolloutRecord, check_name
from step_analysis.strict_json import FormatError

# Of the configuration, these say how an episode ran; the rest is where files are written and which
# tasks were picked.
_PROTOCOL = ("benchmark", "mode", "max_steps", "params", "hz", "paced", "throughput_mode")


def looks_like_vla_eval(document: Mapping[str, Any]) -> bool:
    return {"benchmark", "tasks", "harness_version"} <= document.keys()


def read_vla_eval(
    path: Path, document: Mapping[str, Any], policy: str, *, count_infrastructure: bool
) -> PolicySource:
    """The policy of one result file, named by its folder: the file does not name it.

    A task is called '<benchmark>/<task>', an episode is its `episode_id`.

    Args:
        count_infrastructure: take errors to be failures, as the harness does.

    Raises:
        FormatError: a field is missing or wrong; names it.
    """
    benchmark = checked_text(document.get("benchmark"), "benchmark")
    config = checked_object(document.get("config", {}), "config")
    per_task = config.get("episodes_per_task")
    asked_for = range(0)
    if type(per_task) is int:
        asked_for = episode_range(0, per_task, "config.episodes_per_task")
    records: list[RolloutRecord] = []
    requested: dict[str, set[int]] = {}
    scored_as_failure: list[tuple[str, int]] = []
    for i, value in enumerate(checked_list(document.get("tasks"), "tasks")):
        entry = checked_object(value, f"tasks[{i}]")
        name = checked_text(entry.get("task"), f"tasks[{i}].task")
        task = check_name(f"{benchmark}/{name}", f"tasks[{i}].task")
        requested.setdefault(task, set()).update(asked_for)
        episodes = checked_list(entry.get("episodes"), f"tasks[{i}].episodes")
        for j, episode in enumerate(episodes):
            where = f"tasks[{i}].episodes[{j}]"
            fields = _fields(checked_object(episode, where), where)
            if fields["outcome"] is Outcome.ERROR:
                scored_as_failure.append((task, fields["scenario_index"]))
                if count_infrastructure:
                    fields["outcome"] = Outcome.FAILURE
            try:
                record = RolloutRecord(policy=policy, task=task, seed=None, **fields)
            except FormatError as error:
                raise FormatError(f"{where}: {error}") from None
            requested[task].add(record.scenario_index)
            records.append(record)
    return PolicySource(
        path=path,
        policy=policy,
        records=records,
        requested=requested,
        scored_as_failure=scored_as_failure,
        protocol=_protocol(document, config, benchmark),
        remarks=("vla-eval's files do not name the policy: it is called after its folder",),
    )


def _fields(episode: Mapping[str, Any], where: str) -> dict[str, Any]:
    """What a record has of an episode; `RolloutRecord` checks the rest of it."""
    metrics = checked_object(episode.get("metrics"), f"{where}.metrics")
    if "success" not in metrics:
        raise FormatError(f"{where}.metrics: no 'success' among {sorted(metrics)}")
    is_success = checked_success(metrics["success"], f"{where}.metrics.success")
    reason, message = episode.get("failure_reason"), None
    if reason is not None:
        message = f"{checked_text(reason, f'{where}.failure_reason')}: "
        message += str(episode.get("failure_detail") or "no detail")
    return {
        "scenario_index": episode.get("episode_id"),
        "outcome": (
            Outcome.ERROR
            if reason is not None
            else Outcome.SUCCESS
            if is_success
            else Outcome.FAILURE
        ),
        "num_control_steps": episode.get("steps"),
        "duration_s": episode.get("elapsed_sec"),
        "message": message,
    }


def _protocol(
    document: Mapping[str, Any], config: Mapping[str, Any], benchmark: str
) -> dict[str, Any]:
    """By the benchmark's name: two benchmarks of one run differ in their settings by right."""
    settings = {name: config[name] for name in _PROTOCOL if name in config}
    settings |= {name: document[name] for name in ("harness_version", "seed") if name in document}
    return flattened(settings, benchmark)
