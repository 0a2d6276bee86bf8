"""A saucer."""

from __future__ import annotations

from dataclasses import dataclass

from pydrake.geometry import Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    TEAL,
    Colour,
    Standing,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_cylinder,
)
from sim_client.surfaces import lathe


@dataclass(frozen=True, kw_only=True)
class Saucer(Standing):
    """A flat saucer that lies on its frame's origin."""

    name: str = "saucer"
    fixed: bool = False
    radius_m: float = 0.070
    foot_radius_m: float = 0.050
    height_m: float = 0.012
    mass_kg: float = 0.25
    colour: Colour = TEAL

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, h))
        collide(
            plant,
            body,
            [(Cylinder(r, h), (0.0, 0.0, h / 2))],
            compliant_properties(resolution_hint_m=0.03),
        )
        plate = lathe(
            [
                (0.0, 0.0),
                (self.foot_radius_m, 0.0),
                (r - 0.004, h - 0.005),
                (r, h - 0.001),
                (r - 0.001, h),
                (r - 0.003, h),
                (0.048, h - 0.003),
                (0.034, h - 0.003),
                (0.033, h - 0.0002),
                (0.0, h - 0.0002),
            ],
            segments=64,
        )
        ring = lathe(
            [(r - 0.010, h + 0.0002), (r - 0.0115, h + 0.0004), (r - 0.013, h + 0.0002)],
            segments=64,
        )
        show(plant, body, {"plate": (plate, self.colour), "ring": (ring, CREAM)})
        return body
