"""A mug."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box, Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    YELLOW,
    Colour,
    Standing,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_cylinder,
)
from sim_client.surfaces import lathe, merged, tube


@dataclass(frozen=True, kw_only=True)
class Mug(Standing):
    """A mug that stands on its frame's origin; the handle points along x."""

    name: str = "mug"
    fixed: bool = False
    radius_m: float = 0.029
    height_m: float = 0.076
    wall_m: float = 0.0035
    handle_reach_m: float = 0.024
    mass_kg: float = 0.18
    colour: Colour = YELLOW

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, h))
        handle_size = (self.handle_reach_m, 0.009, 0.044)
        collide(
            plant,
            body,
            [
                (Cylinder(r, h), (0.0, 0.0, h / 2)),
                (Box(*handle_size), (r + self.handle_reach_m / 2 - 0.001, 0.0, h / 2)),
            ],
            compliant_properties(resolution_hint_m=0.02),
        )
        inner = r - self.wall_m
        outside = lathe(
            [
                (0.0, 0.0),
                (r - 0.004, 0.0),
                (r - 0.001, 0.0015),
                (r, 0.005),
                (r, h - 0.002),
                (r - 0.0008, h - 0.0004),
                (r - self.wall_m / 2, h),
                (inner + 0.0008, h - 0.0004),
                (inner, h - 0.002),
            ]
        )
        inside = lathe([(inner, h - 0.002), (inner, 0.010), (inner - 0.005, 0.005), (0.0, 0.005)])
        angles = np.linspace(-np.pi / 2, np.pi / 2, 24)
        path = np.column_stack(
            [
                r - 0.003 + (self.handle_reach_m + 0.001) * np.cos(angles),
                np.zeros_like(angles),
                h / 2 + 0.021 * np.sin(angles),
            ]
        )
        show(
            plant,
            body,
            {
                "outside": (merged([outside, tube(path, 0.0045)]), self.colour),
                "inside": (inside, CREAM),
            },
        )
        return body
