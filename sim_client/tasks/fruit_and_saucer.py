"""The scene that two tasks share: a kiwi and a banana on one arm's side, a saucer on the other.

Each fruit could be meant and each place, so that the instruction decides: PutKiwiInCenterOfTable,
PutBananaOnSaucer. The centre is free, and the arm on the fruits' side reaches the saucer.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim_client.manipulands.banana import Banana
from sim_client.manipulands.kiwi import Kiwi
from sim_client.manipulands.manipuland import Manipuland
from sim_client.manipulands.saucer import Saucer
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import Apart, AwayFrom, Precondition

CENTRE_M = (0.0, 0.0)

OBJECTS: tuple[Manipuland, ...] = (Kiwi(), Banana(), Saucer())
PLACEMENTS: Mapping[str, Placement] = {
    "kiwi": Placement(
        x_m=(-0.16, 0.08),
        y_m=(-0.36, -0.12),
        yaw_rad=(-np.deg2rad(60.0), np.deg2rad(60.0)),
    ),
    "banana": Placement(
        x_m=(-0.14, 0.06),
        y_m=(-0.36, -0.14),
        yaw_rad=(-np.deg2rad(60.0), np.deg2rad(60.0)),
    ),
    # Farther back, the hand that reaches over to it would meet the other arm's.
    "saucer": Placement(x_m=(-0.02, 0.08), y_m=(0.08, 0.14)),
}
PRECONDITIONS: tuple[Precondition, ...] = (
    AwayFrom("kiwi", CENTRE_M, 0.13),
    AwayFrom("saucer", CENTRE_M, 0.13),
    # Room for an open finger between the two.
    Apart("kiwi", "banana", gap_m=0.025),
)
