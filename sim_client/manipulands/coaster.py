"""A coaster."""

from __future__ import annotations

from dataclasses import dataclass

from pydrake.geometry import Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    Colour,
    Standing,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_cylinder,
)
from sim_client.surfaces import lathe

CORK: Colour = (0.60, 0.38, 0.20)
SLATE: Colour = (0.17, 0.20, 0.26)


@dataclass(frozen=True, kw_only=True)
class Coaster(Standing):
    """A round slab of cork with a dark top; it lies on its frame's origin."""

    name: str = "coaster"
    fixed: bool = False
    radius_m: float = 0.045
    height_m: float = 0.012
    mass_kg: float = 0.06
    colour: Colour = SLATE

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, h))
        collide(
            plant,
            body,
            [(Cylinder(r, h), (0.0, 0.0, h / 2))],
            compliant_properties(resolution_hint_m=0.03),
        )
        cork = lathe(
            [
                (0.0, 0.0),
                (r - 0.0012, 0.0),
                (r - 0.0003, 0.0004),
                (r, 0.0014),
                (r, h - 0.0014),
                (r - 0.0003, h - 0.0004),
                (r - 0.0012, h),
                (0.86 * r, h),
            ],
            segments=64,
        )
        top = lathe([(0.86 * r, h), (0.0, h)], segments=64)
        ring = lathe([(0.72 * r, h + 0.0003), (0.66 * r, h + 0.0003)], segments=64)
        show(
            plant,
            body,
            {"cork": (cork, CORK), "top": (top, self.colour), "ring": (ring, CREAM)},
        )
        return body
