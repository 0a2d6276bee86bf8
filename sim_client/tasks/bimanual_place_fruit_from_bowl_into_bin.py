"""BimanualPlaceFruitFromBowlIntoBin: one arm hands both fruits on, the other bins them."""

from __future__ import annotations

from sim_client.tasks import fruit_bowl_and_bin as scene
from sim_client.tasks.predicates import AtRest, Grasped, Inside, NearPlace, Released
from sim_client.tasks.task import Task

BIMANUAL_PLACE_FRUIT_FROM_BOWL_INTO_BIN = Task(
    name="BimanualPlaceFruitFromBowlIntoBin",
    instructions=(
        "Place the fruit from the bowl into the bin.",
        "Put both fruits from the bowl into the bin.",
        "Empty the bowl: the apple and the pear go into the bin.",
        "Move the apple and the pear from the bowl to the blue bin.",
    ),
    held_out_instructions=(
        "All the fruit in the bowl belongs in the bin.",
        "Clear the fruit bowl into the bin on the other side.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=tuple(
        milestone
        for fruit in ("apple", "pear")
        for milestone in (Grasped(fruit), NearPlace(fruit, within_m=0.2))
    ),
    success=tuple(
        predicate
        for fruit in ("apple", "pear")
        for predicate in (Inside(fruit, "bin"), Released(fruit), AtRest(fruit))
    ),
    time_limit_s=80.0,
    bimanual=True,
)
