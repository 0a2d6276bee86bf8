"""The tasks by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from types import MappingProxyType

from sim_client.tasks.bimanual_place_apple_from_bowl_into_bin import (
    BIMANUAL_PLACE_APPLE_FROM_BOWL_INTO_BIN,
)
from sim_client.tasks.bimanual_place_fruit_from_bowl_into_bin import (
    BIMANUAL_PLACE_FRUIT_FROM_BOWL_INTO_BIN,
)
from sim_client.tasks.bimanual_put_red_bell_pepper_in_bin import (
    BIMANUAL_PUT_RED_BELL_PEPPER_IN_BIN,
)
from sim_client.tasks.bimanual_stack_plates_on_table_from_drying_rack import (
    BIMANUAL_STACK_PLATES_ON_TABLE_FROM_DRYING_RACK,
)
from sim_client.tasks.bimanual_store_cereal_box_under_shelf import (
    BIMANUAL_STORE_CEREAL_BOX_UNDER_SHELF,
)
from sim_client.tasks.pick_and_place_box import PICK_AND_PLACE_BOX
from sim_client.tasks.place_cup_by_coaster import PLACE_CUP_BY_COASTER
from sim_client.tasks.push_coaster_to_center_of_table import PUSH_COASTER_TO_CENTER_OF_TABLE
from sim_client.tasks.push_coaster_to_mug import PUSH_COASTER_TO_MUG
from sim_client.tasks.put_banana_on_saucer import PUT_BANANA_ON_SAUCER
from sim_client.tasks.put_kiwi_in_center_of_table import PUT_KIWI_IN_CENTER_OF_TABLE
from sim_client.tasks.put_mug_in_center_of_table import PUT_MUG_IN_CENTER_OF_TABLE
from sim_client.tasks.put_mug_on_saucer import PUT_MUG_ON_SAUCER
from sim_client.tasks.put_spatula_in_utensil_crock import PUT_SPATULA_IN_UTENSIL_CROCK
from sim_client.tasks.task import Task
from sim_client.tasks.turn_cup_upside_down import TURN_CUP_UPSIDE_DOWN
from sim_client.tasks.turn_mug_rightside_up import TURN_MUG_RIGHTSIDE_UP

TASKS: Mapping[str, Task] = MappingProxyType(
    {
        task.name: task
        for task in (
            PICK_AND_PLACE_BOX,
            PUSH_COASTER_TO_CENTER_OF_TABLE,
            PUSH_COASTER_TO_MUG,
            PLACE_CUP_BY_COASTER,
            PUT_MUG_ON_SAUCER,
            PUT_MUG_IN_CENTER_OF_TABLE,
            PUT_KIWI_IN_CENTER_OF_TABLE,
            PUT_BANANA_ON_SAUCER,
            TURN_MUG_RIGHTSIDE_UP,
            TURN_CUP_UPSIDE_DOWN,
            PUT_SPATULA_IN_UTENSIL_CROCK,
            BIMANUAL_PLACE_APPLE_FROM_BOWL_INTO_BIN,
            BIMANUAL_PLACE_FRUIT_FROM_BOWL_INTO_BIN,
            BIMANUAL_PUT_RED_BELL_PEPPER_IN_BIN,
            BIMANUAL_STACK_PLATES_ON_TABLE_FROM_DRYING_RACK,
            BIMANUAL_STORE_CEREAL_BOX_UNDER_SHELF,
        )
    }
)


_UNSEEN = (
    PUT_MUG_IN_CENTER_OF_TABLE.name,
    PUSH_COASTER_TO_MUG.name,
    BIMANUAL_PLACE_FRUIT_FROM_BOWL_INTO_BIN.name,
)

SPLITS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "all": tuple(TASKS),
        "one-arm": tuple(name for name, task in TASKS.items() if not task.bimanual),
        "two-arms": tuple(name for name, task in TASKS.items() if task.bimanual),
        "seen": tuple(name for name in TASKS if name not in _UNSEEN),
        "unseen": _UNSEEN,
    }
)
"""Sets of tasks by name. Unseen ones combine objects, places and motions of the seen ones anew: the
mug of one task with the centre of another, the coaster's push with another goal, two fruits instead
of one. A policy trained on the seen ones has met every part of them, and none of the wholes."""


class UnknownTaskError(ValueError):
    """A name that no task has."""


def get_tasks(names: Iterable[str]) -> list[Task]:
    """The tasks of these names, each a task's or a split's. Raises UnknownTaskError."""
    return [
        get_task(task_name) for name in names for task_name in SPLITS.get(name.lower(), (name,))
    ]


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
