"""BimanualStoreCerealBoxUnderShelf: both arms push a lying cereal box under a low shelf."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.cereal_box import CerealBox
from sim_client.manipulands.shelf import Shelf
from sim_client.tasks.placement import Placement
from sim_client.tasks.predicates import AtRest, Grasped, Inside, Released, Upright
from sim_client.tasks.task import Task

BIMANUAL_STORE_CEREAL_BOX_UNDER_SHELF = Task(
    name="BimanualStoreCerealBoxUnderShelf",
    instructions=(
        "Store the cereal box under the shelf.",
        "Push the cereal box under the shelf with both arms.",
        "Slide the red box under the wooden shelf.",
        "Put the cereal away under the shelf.",
    ),
    held_out_instructions=(
        "The cereal belongs under the shelf.",
        "Move the cereal box below the board.",
    ),
    objects=(CerealBox(), Shelf()),
    placements={
        "shelf": Placement(x_m=(0.27, 0.29), y_m=(-0.02, 0.02)),
        "cereal_box": Placement(
            x_m=(-0.06, 0.03),
            y_m=(-0.03, 0.03),
            yaw_rad=(-np.deg2rad(10.0), np.deg2rad(10.0)),
        ),
    },
    milestones=(Grasped("cereal_box", "right"), Grasped("cereal_box", "left")),
    success=(
        Inside("cereal_box", "shelf"),
        Upright("cereal_box"),
        Released("cereal_box"),
        AtRest("cereal_box"),
    ),
    time_limit_s=25.0,
    bimanual=True,
)
