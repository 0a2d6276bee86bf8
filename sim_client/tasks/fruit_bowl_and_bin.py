"""The scene that two tasks share: two fruits in a bowl at one side, a bin at the other.

One arm alone reaches the bowl, the other alone the bin, so the fruit must change hands. Which of
it, the instruction says: BimanualPlaceAppleFromBowlIntoBin, BimanualPlaceFruitFromBowlIntoBin.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from sim_client.manipulands.bin import Bin
from sim_client.manipulands.bowl import Bowl
from sim_client.manipulands.fruit import Apple, Pear
from sim_client.manipulands.manipuland import Manipuland
from sim_client.tasks.placement import Placement
from sim_client.tasks.preconditions import OneForEachArm, Precondition

OBJECTS: tuple[Manipuland, ...] = (Apple(), Pear(), Bowl(), Bin())
PLACEMENTS: Mapping[str, Placement] = {
    "bowl": Placement(
        x_m=(-0.02, 0.07), y_m=(-0.47, -0.41), yaw_rad=(-np.deg2rad(50.0), np.deg2rad(50.0))
    ),
    # Side by side along the bowl's x axis, so that fingers fit in across it.
    "apple": Placement(on="bowl", x_m=(-0.038, -0.034), y_m=(-0.004, 0.004)),
    "pear": Placement(on="bowl", x_m=(0.034, 0.038), y_m=(-0.004, 0.004)),
    "bin": Placement(
        x_m=(-0.02, 0.07), y_m=(0.43, 0.49), yaw_rad=(-np.deg2rad(10.0), np.deg2rad(10.0))
    ),
}
PRECONDITIONS: tuple[Precondition, ...] = tuple(
    # A hand that holds a fruit by its side is 3 cm from the fruit's middle, and 10 cm from the
    # bin's when it lets go over the bin's near corner.
    OneForEachArm(fruit, "bin", first_margin_m=0.03, second_margin_m=0.10)
    for fruit in ("apple", "pear")
)
