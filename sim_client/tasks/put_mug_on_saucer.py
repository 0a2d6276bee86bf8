"""PutMugOnSaucer: the arm on the mug's side stands the mug on the saucer."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.mug import Mug
from sim_client.manipulands.saucer import Saucer
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import Apart
from sim_client.tasks.predicates import AtRest, Dropped, Grasped, Lifted, OnTop, Released, Upright
from sim_client.tasks.task import Task

PUT_MUG_ON_SAUCER = Task(
    name="PutMugOnSaucer",
    instructions=(
        "Put the mug on the saucer.",
        "Place the yellow mug on the saucer.",
        "Set the mug down on the saucer.",
        "Stand the mug on its saucer.",
    ),
    held_out_instructions=(
        "The mug belongs on the teal saucer.",
        "Pick up the mug and rest it on the saucer.",
    ),
    objects=(Mug(), Saucer()),
    mirrored=True,
    placements={
        "mug": Placement(
            x_m=(-0.14, 0.04),
            y_m=(-0.36, -0.20),
            yaw_rad=(-np.deg2rad(40.0), np.deg2rad(40.0)),
        ),
        "saucer": Placement(x_m=(-0.12, 0.04), y_m=(-0.08, 0.02)),
    },
    # Room for an open finger and the hand between the mug's wall and the saucer's edge.
    preconditions=(Apart("mug", "saucer", gap_m=0.045),),
    milestones=(Grasped("mug"), Lifted("mug")),
    success=(
        OnTop("mug", "saucer", within_m=0.035),
        Upright("mug"),
        Released("mug"),
        AtRest("mug", speed_m_s=0.03, angular_speed_rad_s=0.5),
    ),
    failure=(Dropped("mug"),),
    time_limit_s=15.0,
)
