"""A cup without a handle."""

from __future__ import annotations

from dataclasses import dataclass

from pydrake.geometry import Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    FRICTION,
    Colour,
    Standing,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_cylinder,
)
from sim_client.surfaces import lathe

SKY: Colour = (0.22, 0.55, 0.82)


@dataclass(frozen=True, kw_only=True)
class Cup(Standing):
    """A tumbler, taller and slimmer than the mug; it stands on its frame's origin."""

    name: str = "cup"
    fixed: bool = False
    radius_m: float = 0.0265
    height_m: float = 0.088
    wall_m: float = 0.003
    mass_kg: float = 0.14
    friction: float = FRICTION
    colour: Colour = SKY

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, h))
        collide(
            plant,
            body,
            [(Cylinder(r, h), (0.0, 0.0, h / 2))],
            compliant_properties(resolution_hint_m=0.02, friction=self.friction),
        )
        inner = r - self.wall_m
        outside = lathe(
            [
                (0.0, 0.0),
                (r - 0.0060, 0.0),
                (r - 0.0025, 0.0010),
                (r - 0.0006, 0.0040),
                (r, 0.0090),
                (r, h - 0.0020),
                (r - 0.0008, h - 0.0004),
                (r - self.wall_m / 2, h),
                (inner + 0.0008, h - 0.0004),
                (inner, h - 0.0020),
            ]
        )
        inside = lathe([(inner, h - 0.002), (inner, 0.010), (inner - 0.005, 0.005), (0.0, 0.005)])
        # Two bands under the rim say which end is up, from any side.
        bands = {
            f"band_{i}": (lathe([(r + 0.0003, low), (r + 0.0003, low + width)]), CREAM)
            for i, (low, width) in enumerate(((h - 0.026, 0.009), (h - 0.033, 0.003)))
        }
        show(
            plant,
            body,
            {"outside": (outside, self.colour), "inside": (inside, CREAM), **bands},
        )
        return body
