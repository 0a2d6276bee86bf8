"""An open bin."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    BLUE,
    Array,
    Colour,
    Resting,
    add_body,
    collide,
    rigid_properties,
    show,
    standing_box,
)
from sim_client.surfaces import merged, rounded_box


@dataclass(frozen=True, kw_only=True)
class Bin(Resting):
    """Square and open, fixed to the table; things in it lie on its floor."""

    name: str = "bin"
    fixed: bool = True
    inner_m: float = 0.16
    height_m: float = 0.065
    wall_m: float = 0.008
    floor_m: float = 0.006
    colour: Colour = BLUE

    @property
    def outer_m(self) -> float:
        return self.inner_m + 2 * self.wall_m

    @property
    def radius_m(self) -> float:
        return float(self.outer_m / np.sqrt(2.0))

    @property
    def top_m(self) -> float:
        return self.floor_m

    def contains(self, p_CO: Array) -> bool:
        """Between the walls and below their upper edge."""
        return bool(np.abs(p_CO[:2]).max() < self.inner_m / 2 and 0.0 <= p_CO[2] < self.height_m)

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        outer = self.outer_m
        body = add_body(plant, self.name, standing_box(0.5, (outer, outer, self.height_m)))
        reach = (self.inner_m + self.wall_m) / 2
        middle = self.height_m / 2
        shapes: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = [
            ((outer, outer, self.floor_m), (0.0, 0.0, self.floor_m / 2)),
            ((self.wall_m, outer, self.height_m), (reach, 0.0, middle)),
            ((self.wall_m, outer, self.height_m), (-reach, 0.0, middle)),
            ((outer, self.wall_m, self.height_m), (0.0, reach, middle)),
            ((outer, self.wall_m, self.height_m), (0.0, -reach, middle)),
        ]
        collide(plant, body, [(Box(*size), at) for size, at in shapes], rigid_properties())
        walls = merged([rounded_box(size, 0.0028).at(*at) for size, at in shapes])
        show(plant, body, {"walls": (walls, self.colour)})
        return body
