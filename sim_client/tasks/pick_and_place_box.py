"""PickAndPlaceBox: the right arm puts a box into a bin."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.bin import Bin
from sim_client.manipulands.box import Parcel
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import OutsideSquare
from sim_client.tasks.predicates import AtRest, Grasped, Inside, Lifted, Released
from sim_client.tasks.task import Task

BOX = Parcel()
BIN = Bin()

PICK_AND_PLACE_BOX = Task(
    name="PickAndPlaceBox",
    instructions=(
        "Pick up the box and place it in the bin.",
        "Put the red box into the blue bin.",
        "Place the box in the bin.",
        "Take the parcel and drop it in the bin.",
    ),
    held_out_instructions=(
        "The red parcel belongs in the bin.",
        "Move the box over to the bin and let it go.",
    ),
    objects=(BOX, BIN),
    placements={
        "box": Placement(
            x_m=(-0.14, 0.04),
            y_m=(-0.34, -0.16),
            yaw_rad=(-np.deg2rad(35.0), np.deg2rad(35.0)),
        ),
        "bin": Placement(
            x_m=(-0.10, 0.04),
            y_m=(0.03, 0.12),
            yaw_rad=(-np.deg2rad(10.0), np.deg2rad(10.0)),
        ),
    },
    # From the box's centre to the bin's wall: half the hand's width, which is lower than the wall's
    # height when the box is grasped.
    preconditions=(OutsideSquare("box", "bin", side_m=BIN.outer_m, gap_m=0.11),),
    milestones=(Grasped("box"), Lifted("box")),
    success=(Inside("box", "bin"), Released("box"), AtRest("box")),
    time_limit_s=15.0,
)
