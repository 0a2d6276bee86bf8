"""BimanualPlaceAppleFromBowlIntoBin: one arm hands the apple on, the other puts it into the bin."""

from __future__ import annotations

from sim_client.tasks import fruit_bowl_and_bin as scene
from sim_client.tasks.predicates import AtRest, Grasped, Inside, Lifted, NearPlace, Released
from sim_client.tasks.task import Task

BIMANUAL_PLACE_APPLE_FROM_BOWL_INTO_BIN = Task(
    name="BimanualPlaceAppleFromBowlIntoBin",
    instructions=(
        "Place the apple from the bowl into the bin.",
        "Take the red apple out of the bowl and put it into the bin.",
        "Move only the apple from the bowl to the bin.",
        "Put the apple that is in the bowl into the blue bin; leave the pear.",
    ),
    held_out_instructions=(
        "The apple belongs in the bin, the pear stays in the bowl.",
        "Get the apple out of the bowl and drop it in the bin on the other side.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=(Grasped("apple"), Lifted("apple"), NearPlace("apple", within_m=0.2)),
    success=(
        Inside("apple", "bin"),
        Released("apple"),
        AtRest("apple"),
        Inside("pear", "bowl"),
    ),
    time_limit_s=45.0,
    bimanual=True,
)
