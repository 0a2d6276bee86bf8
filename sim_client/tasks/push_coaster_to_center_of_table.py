"""PushCoasterToCenterOfTable: the arm on its side pushes the coaster to the table's centre."""

from __future__ import annotations

from sim_client.tasks import coaster_and_mug as scene
from sim_client.tasks.predicates import AtRest, Grasped, NearPlace, OnTable, Released, Upright
from sim_client.tasks.task import Task

PUSH_COASTER_TO_CENTER_OF_TABLE = Task(
    name="PushCoasterToCenterOfTable",
    instructions=(
        "Push the coaster to the center of the table.",
        "Slide the coaster into the middle of the table.",
        "Move the coaster to the table's center by pushing it.",
        "Push the round coaster to the middle.",
    ),
    held_out_instructions=(
        "The coaster should be at the center of the table: push it there.",
        "Shove the coaster over to the middle of the table.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=(
        Grasped("coaster"),
        NearPlace("coaster", within_m=0.10, place_m=scene.CENTRE_M, place="middle"),
    ),
    success=(
        NearPlace("coaster", within_m=0.04, place_m=scene.CENTRE_M),
        OnTable("coaster"),
        Released("coaster"),
        AtRest("coaster"),
        Upright("mug"),
    ),
    time_limit_s=20.0,
)
