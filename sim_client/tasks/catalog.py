"""The tasks by name."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from sim_client.tasks.pick_and_place_box import PICK_AND_PLACE_BOX
from sim_client.tasks.put_mug_on_saucer import PUT_MUG_ON_SAUCER
from sim_client.tasks.task import Task

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            PICK_AND_PLACE_BOX,
            PUT_MUG_ON_SAUCER,
        )
    }
)


class UnknownTaskError(ValueError):
    """A name that no task has."""


def get_task(name: str) -> Task:
    """The task called `name`, in CamelCase or snake_case. Raises UnknownTaskError."""
    by_folded_name = {_folded(task_name): task for task_name, task in TASKS.items()}
    task = by_folded_name.get(_folded(name))
    if task is None:
        close = difflib.get_close_matches(_folded(name), list(by_folded_name), n=1, cutoff=0.5)
        hint = f" Did you mean {by_folded_name[close[0]].name!r}?" if close else ""
        raise UnknownTaskError(f"unknown task {name!r}: expected one of {sorted(TASKS)}.{hint}")
    return task


def _folded(name: str) -> str:
    return name.replace("_", "").lower()
