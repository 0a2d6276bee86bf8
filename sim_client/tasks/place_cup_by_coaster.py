"""PlaceCupByCoaster: the arm on the cup's side stands the cup beside the coaster."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.coaster import Coaster
from sim_client.manipulands.cup import Cup
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import Apart
from sim_client.tasks.predicates import (
    AtRest,
    Dropped,
    Grasped,
    Lifted,
    NextTo,
    OnTable,
    Released,
    Upright,
)
from sim_client.tasks.task import Task

PLACE_CUP_BY_COASTER = Task(
    name="PlaceCupByCoaster",
    instructions=(
        "Place the cup by the coaster.",
        "Put the cup next to the coaster.",
        "Set the blue cup down beside the coaster.",
        "Stand the cup on the table close to the coaster.",
    ),
    held_out_instructions=(
        "The cup should stand beside the coaster, not on it.",
        "Move the blue cup right next to the coaster.",
    ),
    objects=(Cup(), Coaster()),
    mirrored=True,
    placements={
        "cup": Placement(x_m=(-0.14, 0.06), y_m=(-0.38, -0.20), yaw_rad=(-np.pi, np.pi)),
        "coaster": Placement(x_m=(-0.12, 0.06), y_m=(-0.08, 0.06), yaw_rad=(-np.pi, np.pi)),
    },
    preconditions=(Apart("cup", "coaster", gap_m=0.09),),
    milestones=(Grasped("cup"), Lifted("cup")),
    success=(
        NextTo("cup", "coaster", gap_m=0.04),
        OnTable("cup"),
        OnTable("coaster"),
        Upright("cup"),
        Released("cup"),
        AtRest("cup", speed_m_s=0.03, angular_speed_rad_s=0.5),
    ),
    failure=(Dropped("cup"),),
    time_limit_s=15.0,
)
