"""A parcel."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    RED,
    Colour,
    Resting,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_box,
)
from sim_client.surfaces import rounded_box


@dataclass(frozen=True, kw_only=True)
class Parcel(Resting):
    """A box with a paper band. The y side is the one that fits the gripper."""

    name: str = "box"
    fixed: bool = False
    size_m: tuple[float, float, float] = (0.070, 0.045, 0.050)
    mass_kg: float = 0.15
    colour: Colour = RED

    @property
    def radius_m(self) -> float:
        return float(np.hypot(*self.size_m[:2]) / 2)

    @property
    def top_m(self) -> float:
        return self.size_m[2]

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        x, y, z = self.size_m
        body = add_body(plant, self.name, standing_box(self.mass_kg, self.size_m))
        collide(
            plant,
            body,
            [(Box(x, y, z), (0.0, 0.0, z / 2))],
            compliant_properties(resolution_hint_m=0.03),
        )
        sides = rounded_box(self.size_m, 0.004).at(0.0, 0.0, z / 2)
        band = rounded_box((0.016, y + 0.0008, z + 0.0008), 0.0045).at(0.0, 0.0, z / 2)
        show(plant, body, {"sides": (sides, self.colour), "band": (band, CREAM)})
        return body
