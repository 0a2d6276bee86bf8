"""The scene that three tasks share: a coaster and a mug on one arm's side, the centre free.

Each of them could be meant, so that the instruction decides: PushCoasterToCenterOfTable,
PushCoasterToMug, PutMugInCenterOfTable.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim_client.manipulands.coaster import Coaster
from sim_client.manipulands.manipuland import Manipuland
from sim_client.manipulands.mug import Mug
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import Apart, AwayFrom, ClearWay, Precondition

CENTRE_M = (0.0, 0.0)

OBJECTS: tuple[Manipuland, ...] = (Coaster(), Mug())
PLACEMENTS: Mapping[str, Placement] = {
    "coaster": Placement(x_m=(-0.12, 0.10), y_m=(-0.32, -0.14), yaw_rad=(-np.pi, np.pi)),
    "mug": Placement(
        x_m=(-0.16, 0.10),
        y_m=(-0.38, -0.14),
        yaw_rad=(-np.deg2rad(40.0), np.deg2rad(40.0)),
    ),
}
PRECONDITIONS: tuple[Precondition, ...] = (
    AwayFrom("coaster", CENTRE_M, 0.15),
    AwayFrom("mug", CENTRE_M, 0.15),
    Apart("coaster", "mug", gap_m=0.08),
    # The hand is lower than the mug is high, and reaches 10 cm to either side of the fingers.
    ClearWay("coaster", "mug", gap_m=0.07, behind_m=0.08, place_m=CENTRE_M),
)
