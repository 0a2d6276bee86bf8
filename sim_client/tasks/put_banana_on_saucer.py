"""PutBananaOnSaucer: the arm on its side lays the banana on the saucer beyond the centre."""

from __future__ import annotations

from sim_client.tasks import fruit_and_saucer as scene
from sim_client.tasks.predicates import AtRest, Dropped, Grasped, Lifted, OnTop, Released
from sim_client.tasks.task import Task

PUT_BANANA_ON_SAUCER = Task(
    name="PutBananaOnSaucer",
    instructions=(
        "Put the banana on the saucer.",
        "Place the banana on the teal saucer.",
        "Lay the banana down on the saucer.",
        "Pick up the banana and put it on the saucer.",
    ),
    held_out_instructions=(
        "The banana belongs on the saucer.",
        "Move the yellow fruit onto the saucer.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=(Grasped("banana"), Lifted("banana")),
    success=(
        OnTop("banana", "saucer", within_m=0.04),
        Released("banana"),
        AtRest("banana"),
    ),
    failure=(Dropped("banana"),),
    time_limit_s=15.0,
)
