"""What is asked of whoever draws the scene, and what comes of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from policy_interface.contract import ImageSize
from sim_client.station.panda_kinematics import Array

# The pads are nearer to the wrist cameras than 10 cm, the floor's far corner within 8 m.
NEAR_M, FAR_M = 0.01, 8.0


class Shot(NamedTuple):
    """One picture to be taken: square pixels, the principal point at the image's centre.

    X_WC: (4, 4) of the optical frame.
    """

    size: ImageSize
    vertical_field_of_view_rad: float
    X_WC: Array


class Picture(NamedTuple):
    """rgb: (H, W, 3). depth_m: (H, W), infinite where nothing is. label: (H, W), 0 is the room.

    depth_m and label are None where the drawer was not made for them.
    """

    rgb: npt.NDArray[np.uint8]
    depth_m: npt.NDArray[np.float32] | None
    label: npt.NDArray[np.int16] | None


class Drawer(Protocol):
    def draw(self, shots: Sequence[Shot]) -> list[Picture]:
        """Everything where it is in the simulation now."""
        ...
