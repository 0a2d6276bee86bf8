"""PutMugInCenterOfTable: the arm on its side stands the mug in the table's centre."""

from __future__ import annotations

from sim_client.tasks import coaster_and_mug as scene
from sim_client.tasks.predicates import (
    AtRest,
    Dropped,
    Grasped,
    Lifted,
    NearPlace,
    OnTable,
    Released,
    Upright,
)
from sim_client.tasks.task import Task

PUT_MUG_IN_CENTER_OF_TABLE = Task(
    name="PutMugInCenterOfTable",
    instructions=(
        "Put the mug in the center of the table.",
        "Place the yellow mug in the middle of the table.",
        "Set the mug down at the table's center.",
        "Pick up the mug and put it in the middle.",
    ),
    held_out_instructions=(
        "The mug belongs in the center of the table.",
        "Stand the yellow mug right in the middle of the table.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=(Grasped("mug"), Lifted("mug")),
    success=(
        NearPlace("mug", within_m=0.04, place_m=scene.CENTRE_M),
        OnTable("mug"),
        Upright("mug"),
        Released("mug"),
        AtRest("mug", speed_m_s=0.03, angular_speed_rad_s=0.5),
    ),
    failure=(Dropped("mug"),),
    time_limit_s=15.0,
)
