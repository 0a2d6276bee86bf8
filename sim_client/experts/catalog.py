"""The scripted expert of each task."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from sim_client.experts.expert import Expert
from sim_client.experts.fruit_targets import FruitIntoBin, FruitToMiddle
from sim_client.experts.pick_and_place import PickAndPlaceExpert
from sim_client.experts.push import PushExpert
from sim_client.experts.relay import RelayExpert
from sim_client.experts.reorient import ReorientExpert
from sim_client.experts.reorient_targets import CupUpsideDown, MugRightsideUp, SpatulaIntoCrock
from sim_client.experts.shelf_push import ShelfPushExpert
from sim_client.experts.single_arm_targets import BoxIntoBin, MugOntoSaucer
from sim_client.experts.table_targets import (
    BananaOntoSaucer,
    CoasterToCentre,
    CoasterToMug,
    CupByCoaster,
    ItemToCentre,
)
from sim_client.experts.two_hand_targets import PepperIntoBin, PlateOntoStack
from sim_client.experts.two_hands import TwoHandExpert
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


def _fruit_relay(task: Task, *fruits: str) -> Expert:
    """One fruit after the other."""
    return RelayExpert(
        [stage(task, fruit) for fruit in fruits for stage in (FruitIntoBin, FruitToMiddle)]
    )


_EXPERTS: Mapping[str, Callable[[Task], Expert]] = MappingProxyType(
    {
        BIMANUAL_PLACE_APPLE_FROM_BOWL_INTO_BIN.name: lambda task: _fruit_relay(task, "apple"),
        BIMANUAL_PLACE_FRUIT_FROM_BOWL_INTO_BIN.name: lambda task: _fruit_relay(
            task, "apple", "pear"
        ),
        BIMANUAL_PUT_RED_BELL_PEPPER_IN_BIN.name: lambda task: TwoHandExpert([PepperIntoBin(task)]),
        BIMANUAL_STACK_PLATES_ON_TABLE_FROM_DRYING_RACK.name: lambda task: TwoHandExpert(
            [
                PlateOntoStack(task, "front_plate"),
                PlateOntoStack(task, "back_plate", below="front_plate"),
            ]
        ),
        PICK_AND_PLACE_BOX.name: lambda task: PickAndPlaceExpert(BoxIntoBin(task)),
        PUT_MUG_ON_SAUCER.name: lambda task: PickAndPlaceExpert(MugOntoSaucer(task)),
        PLACE_CUP_BY_COASTER.name: lambda task: PickAndPlaceExpert(CupByCoaster(task=task)),
        PUSH_COASTER_TO_CENTER_OF_TABLE.name: lambda task: PushExpert(CoasterToCentre(task=task)),
        PUSH_COASTER_TO_MUG.name: lambda task: PushExpert(CoasterToMug(task=task)),
        PUT_BANANA_ON_SAUCER.name: lambda task: PickAndPlaceExpert(BananaOntoSaucer(task=task)),
        PUT_KIWI_IN_CENTER_OF_TABLE.name: lambda task: PickAndPlaceExpert(
            ItemToCentre(task=task, object_name="kiwi", grasp_height_m=0.0, hold_within_m=0.012)
        ),
        PUT_MUG_IN_CENTER_OF_TABLE.name: lambda task: PickAndPlaceExpert(
            ItemToCentre(task=task, object_name="mug", grasp_height_m=0.050)
        ),
        BIMANUAL_STORE_CEREAL_BOX_UNDER_SHELF.name: ShelfPushExpert,
        PUT_SPATULA_IN_UTENSIL_CROCK.name: lambda task: ReorientExpert(SpatulaIntoCrock(task)),
        TURN_CUP_UPSIDE_DOWN.name: lambda task: ReorientExpert(CupUpsideDown(task)),
        TURN_MUG_RIGHTSIDE_UP.name: lambda task: ReorientExpert(MugRightsideUp(task)),
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
