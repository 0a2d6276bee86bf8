"""LeRobot's `eval_info.json`.

Format: the return value of `eval_policy_all` in `src/lerobot/scripts/lerobot_eval.py` of
github.com/huggingface/lerobot: `per_task` has a list of successes for each task of each group.
Before groups came, `eval_policy` of the same file was written: one task, `per_episode`. Neither
names the policy or says what an exception did, and the figures among them may be NaN.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from step_analysis.reading.fields import (
    checked_list,
    checked_object,
    checked_success,
    checked_text,
)
from step_analysis.reading.source import PolicySource
from step_analysis.rollouts import Outcome, RolloutRecord, check_name
from step_analysis.strict_json import FormatError, shown

EVAL_INFO_FILE_NAME = "eval_info.json"
UNNAMED_TASK = "unnamed task"
"""The only task of a file that names none."""


def looks_like_lerobot(document: Mapping[str, Any]) -> bool:
    if "per_task" in document:
        return "overall" in document
    return {"per_episode", "aggregated"} <= document.keys()


def read_lerobot(path: Path, document: Mapping[str, Any], policy: str) -> PolicySource:
    """The policy of one eval_info.json, named by its folder: the file does not name it.

    A task is called '<group>/<id>'; an episode is its position in the task's list, which is its
    seed counted from the first.

    Raises:
        FormatError: a field is missing or wrong; names it.
    """
    remark = "LeRobot's files do not name the policy: it is called after its folder"
    if "per_task" in document:
        records = _of_tasks(document["per_task"], policy)
    else:
        records = _of_episodes(document.get("per_episode"), policy)
        remark += f", and its only task {UNNAMED_TASK!r}"
    requested: dict[str, list[int]] = {}
    for record in records:
        requested.setdefault(record.task, []).append(record.scenario_index)
    return PolicySource(
        path=path, policy=policy, records=records, requested=requested, remarks=(remark,)
    )


def _of_tasks(per_task: object, policy: str) -> list[RolloutRecord]:
    records = []
    for i, value in enumerate(checked_list(per_task, "per_task")):
        where = f"per_task[{i}]"
        entry = checked_object(value, where)
        group = checked_text(entry.get("task_group"), f"{where}.task_group")
        number = entry.get("task_id")
        if type(number) not in (int, str):
            raise FormatError(f"{where}.task_id: a number or a name expected, got {shown(number)}")
        task = check_name(f"{group}/{number}", where)
        metrics = checked_object(entry.get("metrics"), f"{where}.metrics")
        what = f"{where}.metrics.successes"
        for index, success in enumerate(checked_list(metrics.get("successes"), what)):
            records.append(_record(policy, task, index, None, success, f"{what}[{index}]"))
    return records


def _of_episodes(per_episode: object, policy: str) -> list[RolloutRecord]:
    records = []
    for i, value in enumerate(checked_list(per_episode, "per_episode")):
        where = f"per_episode[{i}]"
        episode = checked_object(value, where)
        index, seed = episode.get("episode_ix"), episode.get("seed")
        success, what = episode.get("success"), f"{where}.success"
        records.append(_record(policy, UNNAMED_TASK, index, seed, success, what))
    return records


def _record(
    policy: str, task: str, index: Any, seed: Any, success: object, what: str
) -> RolloutRecord:
    is_success = checked_success(success, what)
    try:
        return RolloutRecord(
            policy=policy,
            task=task,
            scenario_index=index,
            seed=seed,
            outcome=Outcome.SUCCESS if is_success else Outcome.FAILURE,
        )
    except FormatError as error:
        raise FormatError(f"{what.rpartition('.')[0]}: {error}") from None
