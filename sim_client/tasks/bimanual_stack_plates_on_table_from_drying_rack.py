"""BimanualStackPlatesOnTableFromDryingRack: two hands lift each plate by its rim and stack it."""

from __future__ import annotations

import numpy as np

from sim_client.manipulands.drying_rack import DryingRack
from sim_client.manipulands.plate import Plate
from sim_client.tasks.placement import Placement
from sim_client.tasks.predicates import (
    AtRest,
    Dropped,
    Grasped,
    Lifted,
    NearPlace,
    Released,
    Stacked,
    Upright,
)
from sim_client.tasks.task import Task

PLATES = ("front_plate", "back_plate")
_HALF_A_FACET = float(np.deg2rad(6.0))

BIMANUAL_STACK_PLATES_ON_TABLE_FROM_DRYING_RACK = Task(
    name="BimanualStackPlatesOnTableFromDryingRack",
    instructions=(
        "Stack the plates from the drying rack on the table.",
        "Take both plates off the drying rack and stack them in the middle of the table.",
        "Lift the plates from the rack with both hands and put one on top of the other.",
        "Empty the drying rack: stack its plates on the table.",
    ),
    held_out_instructions=(
        "The plates are dry, make a stack of them on the table.",
        "Put the two plates from the rack on top of each other in the middle.",
    ),
    objects=(DryingRack(), *(Plate(name=name) for name in PLATES)),
    mirrored=True,
    placements={
        "rack": Placement(
            x_m=(-0.09, -0.05),
            y_m=(-0.265, -0.235),
            yaw_rad=(-np.deg2rad(3.0), np.deg2rad(3.0)),
        ),
        "front_plate": Placement(
            on="rack",
            x_m=(0.102, 0.108),
            y_m=(-0.003, 0.003),
            yaw_rad=(-_HALF_A_FACET, _HALF_A_FACET),
        ),
        "back_plate": Placement(
            on="rack",
            x_m=(-0.108, -0.102),
            y_m=(-0.003, 0.003),
            yaw_rad=(-_HALF_A_FACET, _HALF_A_FACET),
        ),
    },
    milestones=tuple(
        milestone
        for plate in PLATES
        for milestone in (
            Grasped(plate, "right"),
            Grasped(plate, "left"),
            Lifted(plate, height_m=0.06),
        )
    ),
    success=(
        Stacked(PLATES, within_m=0.015),
        *(
            condition
            for plate in PLATES
            for condition in (
                NearPlace(plate, within_m=0.18),
                Upright(plate, max_tilt_deg=6.0),
                Released(plate),
                AtRest(plate),
            )
        ),
    ),
    failure=tuple(Dropped(plate) for plate in PLATES),
    time_limit_s=35.0,
    bimanual=True,
)
