"""PushCoasterToMug: the arm on its side pushes the coaster next to the mug, which stays upright."""

from __future__ import annotations

from sim_client.tasks import coaster_and_mug as scene
from sim_client.tasks.predicates import AtRest, Dropped, Grasped, NextTo, OnTable, Released, Upright
from sim_client.tasks.task import Task

PUSH_COASTER_TO_MUG = Task(
    name="PushCoasterToMug",
    instructions=(
        "Push the coaster to the mug.",
        "Slide the coaster over to the mug.",
        "Move the coaster next to the mug by pushing it.",
        "Push the coaster up to the yellow mug.",
    ),
    held_out_instructions=(
        "The coaster should be beside the mug: push it there.",
        "Shove the round coaster toward the mug until it is next to it.",
    ),
    objects=scene.OBJECTS,
    mirrored=True,
    placements=scene.PLACEMENTS,
    preconditions=scene.PRECONDITIONS,
    milestones=(Grasped("coaster"),),
    success=(
        NextTo("coaster", "mug", gap_m=0.04),
        OnTable("coaster"),
        Released("coaster"),
        AtRest("coaster"),
        OnTable("mug"),
        Upright("mug"),
        Released("mug"),
        AtRest("mug"),
    ),
    failure=(Dropped("mug"),),
    time_limit_s=20.0,
)
