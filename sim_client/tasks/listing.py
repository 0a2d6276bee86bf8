"""The tasks as `sim-client tasks` shows them."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from sim_client.tasks.task import Task


def as_text(tasks: Iterable[Task]) -> str:
    """A line a task: name, arms, time limit, instruction."""
    listed = list(tasks)
    width = max(len(task.name) for task in listed)
    return "\n".join(
        f"{task.name:{width}}  {'two arms' if task.bimanual else 'one arm':8}  "
        f"{task.time_limit_s:3.0f} s  {task.instruction}"
        for task in listed
    )


def as_json(tasks: Iterable[Task]) -> str:
    """A JSON list with all that a program may want to know."""
    return json.dumps([_described(task) for task in tasks], indent=2)


def _described(task: Task) -> dict[str, Any]:
    return {
        "name": task.name,
        "bimanual": task.bimanual,
        "time_limit_s": task.time_limit_s,
        "instruction": task.instruction,
        "instructions": list(task.instructions),
        "held_out_instructions": list(task.held_out_instructions),
        "objects": [item.name for item in task.objects],
        "success": {each.label: each.words for each in task.success},
        "hold_time_s": task.hold_time_s,
        "failure": {each.label: each.words for each in task.failure},
        "milestones": {each.label: each.words for each in task.milestones},
    }
