"""TurnMugRightsideUp: the arm on the mug's side stands a mug up that lies on its side.

The mug rests on its wall and its handle, the rim toward the other arm.
"""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.mug import Mug
from sim_client.tasks.placement import Placement
from sim_client.tasks.predicates import (
    AtRest,
    Dropped,
    Grasped,
    Lifted,
    OnTable,
    Released,
    Upright,
)
from sim_client.tasks.task import Task

# Taller than the other tasks' mug: the fingers find room between handle and rim.
MUG = Mug(height_m=0.100)
_HANDLE_ON_TABLE_RAD = float(np.deg2rad(61.0))
"""From straight down, about the mug's axis, to where its handle touches the table."""

TURN_MUG_RIGHTSIDE_UP = Task(
    name="TurnMugRightsideUp",
    instructions=(
        "Turn the mug right side up.",
        "Stand the mug up.",
        "Set the yellow mug upright on the table.",
        "Pick up the mug that lies on its side and stand it on its base.",
    ),
    held_out_instructions=(
        "The mug has fallen over, put it back on its base.",
        "Turn the yellow mug so that its opening faces up.",
    ),
    objects=(MUG,),
    mirrored=True,
    placements={
        "mug": Placement(
            x_m=(-0.14, 0.04),
            y_m=(-0.34, -0.18),
            yaw_rad=(np.deg2rad(60.0), np.deg2rad(120.0)),
            spin_rad=(_HANDLE_ON_TABLE_RAD, _HANDLE_ON_TABLE_RAD),
            orientation="lying",
            height_m=MUG.radius_m,
        ),
    },
    milestones=(Grasped("mug"), Lifted("mug", height_m=0.06)),
    success=(Upright("mug"), OnTable("mug"), Released("mug"), AtRest("mug")),
    failure=(Dropped("mug"),),
    time_limit_s=20.0,
)
