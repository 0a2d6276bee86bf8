"""The results.json of LBM Eval and VLA Foundry: written for their tools, read from their runs.

Both keep one entry an episode, written beforehand as pending. LBM Eval records an exception of
its own as `is_success: false` with a traceback, which its dashboard then counts as a failure of
the policy: 196 of the 34,200 open-source rollouts released with VLA Foundry are such. Read here
they are errors, unless asked for as the reference counts them; written here an error has
`is_success: null`, Foundry's mark of a crash.
Standard library only.
"""

import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from step_analysis.atomic_file import write_atomically
from step_analysis.infrastructure import is_timeout, outcome_of_failure
from step_analysis.ledger import LedgerError, latest_outcomes
from step_analysis.rollouts import MAX_EPISODES, Outcome, RolloutKey, RolloutRecord, check_name
from step_analysis.strict_json import FormatError, parse_object, read_bounded, shown

RESULTS_FILE_NAME = "results.json"
PUBLIC_RESULTS_PATTERN = "results-*.json"

_TIMEOUT_PREFIX = "timeout"
_OUTCOMES = {True: Outcome.SUCCESS, None: Outcome.ERROR}
_IDENTIFIER = re.compile(r"[A-Za-z0-9_]+")


@dataclass(frozen=True, kw_only=True)
class ResultsFile:
    """What one results.json holds."""

    path: Path
    policy: str
    records: tuple[RolloutRecord, ...]
    """Finished episodes in the order of the file, an episode that is there twice two times; seed
    and start are not kept there."""
    pending: tuple[RolloutKey, ...]
    scored_as_failure: frozenset[RolloutKey]
    """Episodes with `is_success: false` whose message names the infrastructure."""
    max_sample_size: int | None
    """The budget for each task, fixed beforehand; None where the file does not say."""


def snake_case(task: str) -> str:
    """LBM Eval's skill type of a task: 'PutMugOnSaucer' is 'put_mug_on_saucer'."""
    return re.sub(r"(?<!^)(?<![A-Z])(?=[A-Z])", "_", task).lower()


@lru_cache(maxsize=1024)
def camel_case(skill_type: str) -> str:
    """The task of a skill type: 'put_mug_on_saucer' is 'PutMugOnSaucer'.

    VLA Foundry's closed set has tasks in CamelCase already, and names that are no identifier stay
    as they are.
    """
    if not _IDENTIFIER.fullmatch(skill_type):
        return skill_type
    return "".join(word[:1].upper() + word[1:] for word in skill_type.split("_"))


def write_results(
    path: Path | str,
    records: Iterable[RolloutRecord],
    *,
    requested: Iterable[tuple[str, int]],
    max_sample_size: int,
    num_processes: int,
    elapsed_s: float,
) -> None:
    """Write the state of an evaluation of one policy, whole or not at all.

    Args:
        requested: (task, scenario index) of every episode, done or not, in order.

    Raises:
        LedgerError: the records are of several policies, or count one episode twice.
        OSError: the file can't be written.
    """
    outcomes = latest_outcomes(records)
    policies = {key.policy for key in outcomes}
    if len(policies) > 1:
        raise LedgerError(f"{path}: one policy a file expected, got {sorted(policies)}")
    by_episode = {(key.task, key.scenario_index): record for key, record in outcomes.items()}
    episodes = list(requested)
    evaluations = [_entry(task, index, by_episode.get((task, index))) for task, index in episodes]
    num_evaluated = sum(entry["is_success"] is not None for entry in evaluations)
    num_success = sum(entry["is_success"] is True for entry in evaluations)
    document = {
        "num_processes": num_processes,
        "elapsed_time": elapsed_s,
        "num_evaluated": num_evaluated,
        "num_requested_evaluations": len(episodes),
        "num_success": num_success,
        "success_rate": num_success / num_evaluated if num_evaluated else 0.0,
        "max_sample_size_per_model": max_sample_size,
        "evaluations": evaluations,
    }
    write_atomically(Path(path), json.dumps(document, allow_nan=False, indent=2) + "\n")


def read_results(
    path: Path | str,
    policy: str,
    *,
    task_names: Mapping[str, str] | None = None,
    count_infrastructure: bool = False,
) -> ResultsFile:
    """One results.json or results-*.json, of the policy that its folder names.

    Args:
        task_names: names to give to tasks, by the name in CamelCase.
        count_infrastructure: take what the file scores as a failure to be one, whatever its
            message, as VLA Foundry does.

    Raises:
        LedgerError: not such a file; names the file and the field.
        OSError: the file can't be read.
    """
    path = Path(path)
    try:
        return _parse(path, read_bounded(path), policy, task_names or {}, count_infrastructure)
    except FormatError as error:
        raise LedgerError(f"{path}: {error}") from None


def read_results_tree(root: Path | str) -> list[ResultsFile]:
    """All results of LBM Eval or VLA Foundry at or below `root`, in order of their paths.

    Known layouts: `{policy}/{Task}/rollouts/{time}/results.json`, the same below one folder for
    each evaluation set (the policy is then '{set}/{policy}'), and LBM Eval's own
    `{policy}/results-{time}.json`.
    """
    root = Path(root).resolve()
    paths = [root] if root.is_file() else sorted(_results_below(root))
    return [read_results(path, policy_of(path, root)) for path in paths]


def _results_below(root: Path) -> Iterable[Path]:
    yield from root.rglob(RESULTS_FILE_NAME)
    yield from root.rglob(PUBLIC_RESULTS_PATTERN)


def policy_of(path: Path, root: Path) -> str:
    """The policy's name from the folders between `root` and the file: no results file holds it.

    Raises:
        LedgerError: there are more folders than the known layouts have.
    """
    if not is_foundry_layout(path):
        return path.parent.name
    policy_folder = path.parents[3]
    depth_below_root = len(path.relative_to(root).parts) if path != root else 0
    if depth_below_root == 6:
        return f"{policy_folder.parent.name}/{policy_folder.name}"
    if depth_below_root > 6:
        raise LedgerError(
            f"{path}: nested deeper below {root} than "
            "[set/]policy/Task/rollouts/time/results.json; name a folder further down"
        )
    return policy_folder.name


def is_foundry_layout(path: Path) -> bool:
    """Whether a file lies as policy/Task/rollouts/time/results.json."""
    parents = path.parents
    return path.name == RESULTS_FILE_NAME and len(parents) > 3 and parents[1].name == "rollouts"


def _entry(task: str, scenario_index: int, record: RolloutRecord | None) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "skill_type": snake_case(task),
        "scenario_index": scenario_index,
        "is_pending": record is None,
        "total_time": None,
        "is_success": None,
        "failure_message": None,
    }
    if record is None:
        return entry
    # Both tools read an entry's fields by name, and leave these alone.
    entry |= {"seed": record.seed, "progress": record.progress, "instruction": record.instruction}
    entry["total_time"] = record.duration_s
    entry["failure_message"] = record.message
    if record.outcome.counts:
        entry["is_success"] = record.outcome is Outcome.SUCCESS
    elif not record.message:
        entry["failure_message"] = "error without a message"
    if record.outcome is Outcome.TIMEOUT and not is_timeout(record.message):
        entry["failure_message"] = ": ".join(filter(None, (_TIMEOUT_PREFIX, record.message)))
    return entry


def _parse(
    path: Path,
    content: bytes,
    policy: str,
    task_names: Mapping[str, str],
    count_infrastructure: bool,
) -> ResultsFile:
    what = "results"
    check_name(policy, "policy, from the folder's name")
    document = parse_object(content, what)
    evaluations = document.get("evaluations")
    if not isinstance(evaluations, list):
        raise FormatError(f"{what}: a list 'evaluations' expected, got {shown(evaluations)}")
    budget = document.get("max_sample_size_per_model")
    if budget is not None and (type(budget) is not int or not 1 <= budget <= MAX_EPISODES):
        raise FormatError(
            f"{what}: max_sample_size_per_model: a positive integer of at most {MAX_EPISODES} "
            f"expected, got {shown(budget)}"
        )
    records: list[RolloutRecord] = []
    # By skill type; entries share all but a few fields.
    models: dict[str, RolloutRecord] = {}
    pending: list[RolloutKey] = []
    scored_as_failure: set[RolloutKey] = set()
    for position, entry in enumerate(evaluations):
        try:
            record, is_pending = _parse_entry(entry, policy, task_names, models)
        except FormatError as error:
            raise FormatError(f"{what}: evaluations[{position}]: {error}") from None
        if is_pending:
            pending.append(record.key)
            continue
        if not record.outcome.counts and entry["is_success"] is False:
            scored_as_failure.add(record.key)
            if count_infrastructure:
                record = replace(record, outcome=Outcome.FAILURE)
        records.append(record)
    return ResultsFile(
        path=path,
        policy=policy,
        records=tuple(records),
        pending=tuple(pending),
        scored_as_failure=frozenset(scored_as_failure),
        max_sample_size=budget,
    )


def _parse_entry(
    entry: object,
    policy: str,
    task_names: Mapping[str, str],
    models: dict[str, RolloutRecord],
) -> tuple[RolloutRecord, bool]:
    """An episode's record, and whether it is still pending."""
    if not isinstance(entry, dict):
        raise FormatError(f"a JSON object expected, got {shown(entry)}")
    skill_type = entry.get("skill_type")
    if not isinstance(skill_type, str):
        raise FormatError(f"skill_type: text expected, got {shown(skill_type)}")
    model = models.get(skill_type)
    if model is None:
        model = models[skill_type] = _model(skill_type, policy, task_names)
    if "is_success" not in entry:
        raise FormatError("is_success: missing; true, false or null expected")
    is_success, is_pending = entry["is_success"], entry.get("is_pending", False)
    if not (is_success is True or is_success is False or is_success is None):
        raise FormatError(f"is_success: true, false or null expected, got {shown(is_success)}")
    if not (is_pending is False or is_pending is True or is_pending is None):
        raise FormatError(f"is_pending: true, false or null expected, got {shown(is_pending)}")
    message = entry.get("failure_message")
    record = model.of_episode(
        entry.get("scenario_index"),  # type: ignore[arg-type]
        _outcome(is_success, message),
        duration_s=entry.get("total_time"),
        message=message,
    )
    return record, is_success is None and bool(is_pending)


def _model(skill_type: str, policy: str, task_names: Mapping[str, str]) -> RolloutRecord:
    """What the records of a skill type share."""
    task = check_name(camel_case(skill_type), "skill_type")
    return RolloutRecord(
        policy=policy,
        task=task_names.get(task, task),
        scenario_index=0,
        seed=None,
        outcome=Outcome.ERROR,
    )


def _outcome(is_success: bool | None, message: object) -> Outcome:
    return outcome_of_failure(message) if is_success is False else _OUTCOMES[is_success]
