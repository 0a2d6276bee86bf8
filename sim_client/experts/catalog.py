"""The scripted expert of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sim_client.experts.expert import Expert
from sim_client.experts.pick_and_place import PickAndPlaceExpert
from sim_client.experts.single_arm_targets import BoxIntoBin, MugOntoSaucer
from sim_client.tasks.pick_and_place_box import PICK_AND_PLACE_BOX
from sim_client.tasks.put_mug_on_saucer import PUT_MUG_ON_SAUCER
from sim_client.tasks.task import Task

_EXPERTS: Mapping[str, Callable[[Task], Expert]] = MappingProxyType(
    {
        PICK_AND_PLACE_BOX.name: lambda task: PickAndPlaceExpert(BoxIntoBin(task)),
        PUT_MUG_ON_SAUCER.name: lambda task: PickAndPlaceExpert(MugOntoSaucer(task)),
    }
)


def make_expert(task: Task) -> Expert:
    """Raises ValueError for a task that has no scripted expert."""
    make = _EXPERTS.get(task.name)
    if make is None:
        raise ValueError(
            f"{task.name} has no scripted expert: add one in sim_client/experts/catalog.py"
        )
    return make(task)
