"""PutKiwiInCenterOfTable: the arm on its side puts the kiwi in the table's centre."""

from __future__ import annotations

from sim_client.tasks import fruit_and_saucer as scene
from sim_client.tasks.predicates import (
    AtRest,
    Dropped,
    Grasped,
    Lifted,
    NearPlace,
    OnTable,
    Released,
)
from sim_client.tasks.task import Task

PUT_KIWI_IN_CENTER_OF_TABLE = Task(
    name="PutKiwiInCenterOfTable",
    instructions=(
        "Put the kiwi in the center of the table.",
        "Place the kiwi in the middle of the table.",
        "Pick up the kiwi and put it in the center.",
        "Set the brown kiwi down at the table's center.",
    ),
    held_out_instructions=(
        "The kiwi belongs in the center of the table.",
        "Move the small brown fruit into the middle of the table.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=(Grasped("kiwi"), Lifted("kiwi")),
    success=(
        NearPlace("kiwi", within_m=0.04, place_m=scene.CENTRE_M),
        OnTable("kiwi"),
        Released("kiwi"),
        AtRest("kiwi"),
    ),
    failure=(Dropped("kiwi"),),
    time_limit_s=15.0,
)
