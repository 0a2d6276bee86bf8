"""A crock for kitchen utensils."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box, Cylinder
from pydrake.math import RigidTransform, RollPitchYaw
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.drake_arrays import drake_array
from sim_client.manipulands.manipuland import (
    CREAM,
    TEAL,
    Array,
    Colour,
    Resting,
    add_body,
    rigid_properties,
    show,
    standing_cylinder,
)
from sim_client.surfaces import lathe

_NUM_WALLS = 8


@dataclass(frozen=True, kw_only=True)
class Crock(Resting):
    """Round and open, fixed to the table; to the touch its wall has eight flat sides."""

    name: str = "crock"
    fixed: bool = True
    inner_radius_m: float = 0.048
    wall_m: float = 0.006
    height_m: float = 0.110
    floor_m: float = 0.006
    colour: Colour = CREAM
    band_colour: Colour = TEAL

    @property
    def radius_m(self) -> float:
        return self.inner_radius_m + self.wall_m

    @property
    def top_m(self) -> float:
        return self.floor_m

    def contains(self, p_CO: Array) -> bool:
        """Between the walls and below their upper edge."""
        beside = float(np.linalg.norm(p_CO[:2]))
        return beside < self.inner_radius_m and 0.0 <= float(p_CO[2]) < self.height_m

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, wall, h = self.radius_m, self.wall_m, self.height_m
        body = add_body(plant, self.name, standing_cylinder(0.8, r, h))
        properties = rigid_properties()
        plant.RegisterCollisionGeometry(
            body,
            RigidTransform(drake_array([0.0, 0.0, self.floor_m / 2])),
            Cylinder(r, self.floor_m),
            f"{self.name}_floor",
            properties,
        )
        # Wide enough for neighbours to meet at the outside.
        width = 2 * r * float(np.tan(np.pi / _NUM_WALLS))
        for i in range(_NUM_WALLS):
            angle = 2 * np.pi * i / _NUM_WALLS
            centre = (self.inner_radius_m + wall / 2) * np.array([np.cos(angle), np.sin(angle)])
            plant.RegisterCollisionGeometry(
                body,
                RigidTransform(
                    RollPitchYaw(0.0, 0.0, angle), drake_array([centre[0], centre[1], h / 2])
                ),
                Box(wall, width, h),
                f"{self.name}_wall_{i}",
                properties,
            )
        inner = self.inner_radius_m
        outside = lathe(
            [
                (0.0, 0.0),
                (r - 0.007, 0.0),
                (r - 0.002, 0.0025),
                (r, 0.009),
                (r, h - 0.003),
                (r - 0.0015, h - 0.0006),
                (r - wall / 2, h),
                (inner + 0.0015, h - 0.0006),
                (inner, h - 0.003),
                (inner, 0.014),
                (inner - 0.006, self.floor_m),
                (0.0, self.floor_m),
            ],
            segments=48,
        )
        band = lathe([(r + 0.0004, 0.62 * h), (r + 0.0004, 0.84 * h)], segments=48)
        show(plant, body, {"wall": (outside, self.colour), "band": (band, self.band_colour)})
        return body
