"""Tables with one episode a row: which column is what, and what a row says.

Columns by role, with the names that are understood:

| role        | names                                                                             |
|-------------|-----------------------------------------------------------------------------------|
| policy      | policy, policy_name, model, model_name, checkpoint                                |
| task        | task, task_name, skill_type, skill                                                |
| scenario    | scenario_index, scenario, episode_index, episode_ix, episode_id, episode, rollout,|
|             | trial, demo_id; or seed, if there is none of these                                |
| outcome     | outcome, success, is_success, succeeded, result                                   |
| seed        | seed                                                                              |
| duration_s  | duration_s, total_time, duration, elapsed_sec                                     |
| steps       | num_control_steps, num_steps, steps                                               |
| message     | message, failure_message, failure_reason                                          |
| budget      | max_sample_size, max_sample_size_per_model, budget                                |
| started_at  | started_at (ISO 8601 in UTC)                                                      |

The first four must be there. Two columns for one role are refused: which is meant is not guessed.
An outcome is success, failure, timeout, error, true, false, 1 or 0; an empty one is an episode not
done yet. Other columns are left alone.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from step_analysis.infrastructure import outcome_of_failure
from step_analysis.reading.source import PolicySource
from step_analysis.rollouts import MAX_EPISODES, Outcome, RolloutRecord, check_name
from step_analysis.strict_json import FormatError, shown

_ROLES: Mapping[str, tuple[str, ...]] = {
    "policy": ("policy", "policy_name", "model", "model_name", "checkpoint"),
    "task": ("task", "task_name", "skill_type", "skill"),
    "scenario": (
        "scenario_index",
        "scenario",
        "episode_index",
        "episode_ix",
        "episode_id",
        "episode",
        "rollout",
        "trial",
        "demo_id",
    ),
    "outcome": ("outcome", "success", "is_success", "succeeded", "result"),
    "seed": ("seed",),
    "duration_s": ("duration_s", "total_time", "duration", "elapsed_sec"),
    "steps": ("num_control_steps", "num_steps", "steps"),
    "message": ("message", "failure_message", "failure_reason"),
    "budget": ("max_sample_size", "max_sample_size_per_model", "budget"),
    "started_at": ("started_at",),
}
_NEEDED = ("policy", "task", "scenario", "outcome")

_OUTCOMES: Mapping[str, bool | Outcome] = {
    "true": True,
    "false": False,
    "1": True,
    "0": False,
    "1.0": True,
    "0.0": False,
    **{outcome.value: outcome for outcome in Outcome},
}


@dataclass(kw_only=True)
class _PolicyRows:
    records: list[RolloutRecord] = field(default_factory=list)
    requested: dict[str, list[int]] = field(default_factory=dict)
    budgets: dict[str, int] = field(default_factory=dict)
    scored_as_failure: list[tuple[str, int]] = field(default_factory=list)


def columns_by_role(names: Sequence[str]) -> dict[str, str]:
    """The column of each role.

    Raises:
        FormatError: a needed one is missing, a role has two, or a name is there twice.
    """
    columns: dict[str, str] = {}
    for role, known in _ROLES.items():
        found = [name for name in names if name.strip().lower() in known]
        if len(found) > 1:
            raise FormatError(
                f"columns {shown(found)} could each be the {role}; keep one, or name it "
                f"{known[0]!r} and the others otherwise"
            )
        if found:
            columns[role] = found[0]
    if "scenario" not in columns and "seed" in columns:
        columns["scenario"] = columns["seed"]
    for role in _NEEDED:
        if role not in columns:
            raise FormatError(
                f"no column for the {role}: one of {', '.join(_ROLES[role])} expected, the table "
                f"has {shown(list(names), limit=200)}"
            )
    return columns


def sources_of_rows(
    path: Path,
    columns: Mapping[str, str],
    rows: Iterable[tuple[str, Mapping[str, Any]]],
    *,
    count_infrastructure: bool,
) -> list[PolicySource]:
    """The policies of a table.

    Args:
        columns: as of `columns_by_role`.
        rows: where each stands, e.g. 'line 3', and its values: text as in a CSV, or typed.

    Raises:
        FormatError: a value is none of what its column may hold; names row and column.
    """
    by_policy: dict[str, _PolicyRows] = {}
    for where, row in rows:
        try:
            _add(row, columns, by_policy, count_infrastructure)
        except FormatError as error:
            raise FormatError(f"{where}: {error}") from None
    remarks = tuple(_remarks(columns))
    return [
        PolicySource(
            path=path,
            policy=policy,
            records=of_policy.records,
            requested=of_policy.requested,
            budgets=of_policy.budgets,
            scored_as_failure=of_policy.scored_as_failure,
            remarks=remarks,
        )
        for policy, of_policy in by_policy.items()
    ]


def _add(
    row: Mapping[str, Any],
    columns: Mapping[str, str],
    by_policy: dict[str, _PolicyRows],
    count_infrastructure: bool,
) -> None:
    policy = check_name(row[columns["policy"]], columns["policy"])
    task = check_name(row[columns["task"]], columns["task"])
    index = _integer(row, columns["scenario"])
    if index is None:
        raise FormatError(f"{columns['scenario']}: empty; each row is one episode with its number")
    known = by_policy.setdefault(policy, _PolicyRows())
    known.requested.setdefault(task, []).append(index)
    budget = _integer(row, columns.get("budget"))
    if budget is not None and known.budgets.setdefault(task, budget) != budget:
        raise FormatError(
            f"{columns['budget']}: {budget} here and {known.budgets[task]} above for "
            f"{policy!r} on {task!r}; a budget is fixed once"
        )
    if budget is not None and not 1 <= budget <= MAX_EPISODES:
        raise FormatError(
            f"{columns['budget']}: a positive integer of at most {MAX_EPISODES} expected, "
            f"got {shown(budget)}"
        )
    message = _text(row, columns.get("message"))
    outcome = _outcome(row[columns["outcome"]], columns["outcome"], message)
    if outcome is None:
        return
    if outcome is Outcome.ERROR and _is_scored_false(row[columns["outcome"]]):
        known.scored_as_failure.append((task, index))
        if count_infrastructure:
            outcome = Outcome.FAILURE
    known.records.append(
        RolloutRecord(
            policy=policy,
            task=task,
            scenario_index=index,
            seed=_integer(row, columns.get("seed")),
            outcome=outcome,
            duration_s=_number(row, columns.get("duration_s")),
            num_control_steps=_integer(row, columns.get("steps")),
            message=message,
            started_at=_text(row, columns.get("started_at")),
        )
    )


def _outcome(value: object, column: str, message: str | None) -> Outcome | None:
    """None for an episode not done yet."""
    word = _word(value)
    if word is None:
        return None
    known = _OUTCOMES.get(word)
    if known is None:
        expected = ", ".join(word for word in _OUTCOMES if "." not in word)
        raise FormatError(f"{column}: one of {expected} expected, got {shown(value)}")
    if isinstance(known, Outcome):
        return known if known is not Outcome.FAILURE else outcome_of_failure(message)
    return Outcome.SUCCESS if known else outcome_of_failure(message)


def _is_scored_false(value: object) -> bool:
    return _OUTCOMES.get(_word(value) or "") in (False, Outcome.FAILURE)


def _word(value: object) -> str | None:
    """A value as the table of outcomes has it; None where nothing stands."""
    return None if _is_empty(value) else str(value).strip().lower()


def _is_empty(value: object) -> bool:
    return value is None or (isinstance(value, str) and not value.strip())


def _text(row: Mapping[str, Any], column: str | None) -> str | None:
    value = row[column] if column is not None else None
    return None if _is_empty(value) else str(value)


def _integer(row: Mapping[str, Any], column: str | None) -> int | None:
    value = row[column] if column is not None else None
    if _is_empty(value):
        return None
    try:
        return _whole(value)
    except (TypeError, ValueError, OverflowError):
        raise FormatError(f"{column}: an integer expected, got {shown(value)}") from None


def _whole(value: Any) -> int:
    if isinstance(value, bool):
        raise TypeError
    if isinstance(value, int):
        return value
    if isinstance(value, str) and value.strip().lstrip("+-").isdecimal():
        return int(value)
    # A column of integers with a gap is one of floats to pandas: '3.0'.
    number = float(value)
    if not number.is_integer():
        raise ValueError
    return int(number)


def _number(row: Mapping[str, Any], column: str | None) -> float | None:
    value = row[column] if column is not None else None
    if _is_empty(value):
        return None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        raise FormatError(f"{column}: a number expected, got {shown(value)}") from None


def _remarks(columns: Mapping[str, str]) -> Iterator[str]:
    """What was understood although it is not said in our own words."""
    for role, column in columns.items():
        if column != _ROLES[role][0]:
            yield f"column {column!r} is read as the {role}"
