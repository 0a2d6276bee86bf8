"""BimanualPutRedBellPepperInBin: two hands squeeze a pepper that is too wide for one gripper."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.bell_pepper import BellPepper
from sim_client.manipulands.bin import Bin
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import OutsideSquare, WithinReach
from sim_client.tasks.predicates import AtRest, Grasped, Inside, Lifted, Released
from sim_client.tasks.task import Task

BIN = Bin(inner_m=0.21)

BIMANUAL_PUT_RED_BELL_PEPPER_IN_BIN = Task(
    name="BimanualPutRedBellPepperInBin",
    instructions=(
        "Put the red bell pepper in the bin.",
        "Lift the bell pepper with both hands and put it into the blue bin.",
        "Place the red pepper in the bin.",
        "Carry the bell pepper over to the bin and let it go.",
    ),
    held_out_instructions=(
        "The red pepper belongs in the bin.",
        "Use both arms to drop the bell pepper into the bin.",
    ),
    objects=(BellPepper(), BIN),
    mirrored=True,
    placements={
        "pepper": Placement(
            x_m=(-0.22, -0.15),
            y_m=(-0.12, 0.12),
            yaw_rad=(-np.deg2rad(15.0), np.deg2rad(15.0)),
        ),
        "bin": Placement(
            x_m=(0.04, 0.09),
            y_m=(-0.08, 0.08),
            yaw_rad=(-np.deg2rad(8.0), np.deg2rad(8.0)),
        ),
    },
    # The bin is beyond the pepper, so that no hand is over it before it should be; both arms reach
    # both things.
    preconditions=(
        OutsideSquare("pepper", "bin", side_m=BIN.outer_m, gap_m=0.085),
        *(WithinReach(name, side) for name in ("pepper", "bin") for side in ("right", "left")),
    ),
    milestones=(Grasped("pepper", "right"), Grasped("pepper", "left"), Lifted("pepper")),
    success=(Inside("pepper", "bin"), Released("pepper"), AtRest("pepper")),
    time_limit_s=25.0,
    bimanual=True,
)
