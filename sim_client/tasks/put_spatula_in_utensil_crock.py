"""PutSpatulaInUtensilCrock: the arm on the spatula's side stands it in the crock."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.crock import Crock
from sim_client.manipulands.spatula import Spatula
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import Apart
from sim_client.tasks.predicates import AtRest, Grasped, Inside, Lifted, Released
from sim_client.tasks.task import Task

PUT_SPATULA_IN_UTENSIL_CROCK = Task(
    name="PutSpatulaInUtensilCrock",
    instructions=(
        "Put the spatula in the utensil crock.",
        "Stand the spatula in the crock.",
        "Place the red spatula in the utensil holder.",
        "Pick up the spatula and drop it into the crock.",
    ),
    held_out_instructions=(
        "The spatula belongs in the crock.",
        "Store the red spatula in the cream crock.",
    ),
    objects=(Spatula(), Crock()),
    mirrored=True,
    placements={
        # Nearer, the hand that leans over the blade would rest on the crock's rim.
        "crock": Placement(x_m=(-0.06, 0.06), y_m=(0.04, 0.11)),
        "spatula": Placement(
            x_m=(-0.12, 0.04),
            y_m=(-0.36, -0.28),
            yaw_rad=(np.deg2rad(65.0), np.deg2rad(115.0)),
        ),
    },
    # The blade's end, toward the crock, is as far from the origin as the circle's edge.
    preconditions=(Apart("spatula", "crock", gap_m=0.03),),
    milestones=(Grasped("spatula"), Lifted("spatula", height_m=0.10)),
    success=(Inside("spatula", "crock"), Released("spatula"), AtRest("spatula")),
    time_limit_s=20.0,
)
