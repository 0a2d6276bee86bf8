"""A low drying rack on which plates lie side by side."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    Colour,
    Standing,
    add_body,
    collide,
    rigid_properties,
    show,
    standing_box,
)
from sim_client.surfaces import Surface, merged, rounded_box, rounded_cylinder

STEEL: Colour = (0.66, 0.69, 0.72)
SLATE: Colour = (0.25, 0.29, 0.34)


@dataclass(frozen=True, kw_only=True)
class DryingRack(Standing):
    """Two rails along x over a drip tray, fixed to the table; what dries lies across the rails."""

    name: str = "rack"
    fixed: bool = True
    length_m: float = 0.44
    rails_apart_m: float = 0.090
    rail_m: float = 0.012
    height_m: float = 0.032
    tray_m: float = 0.008
    wire_radius_m: float = 0.0022
    colour: Colour = STEEL
    tray_colour: Colour = SLATE

    @property
    def width_m(self) -> float:
        return self.rails_apart_m + self.rail_m

    @property
    def radius_m(self) -> float:
        return float(np.hypot(self.length_m, self.width_m) / 2)

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        body = add_body(
            plant, self.name, standing_box(0.8, (self.length_m, self.width_m, self.height_m))
        )
        # One block under both rails: half the contact patches, at the same height.
        block = Box(self.length_m, self.width_m, self.height_m)
        collide(
            plant,
            body,
            [(block, (0.0, 0.0, self.height_m / 2))],
            rigid_properties(resolution_hint_m=0.2),
        )
        tray_size = (self.length_m + 0.012, self.width_m + 0.012, self.tray_m)
        tray = rounded_box(tray_size, 0.003).at(0.0, 0.0, self.tray_m / 2)
        show(
            plant,
            body,
            {
                "frame": (merged(self._frame()), self.colour),
                "tray": (tray, self.tray_colour),
            },
        )
        return body

    def _frame(self) -> list[Surface]:
        """Rails on posts, with wires across."""
        half = self.rails_apart_m / 2
        top = self.height_m - self.rail_m / 2
        rail = rounded_cylinder(self.rail_m / 2, self.length_m, 0.005, segments=16).along("x")
        wire = rounded_cylinder(self.wire_radius_m, self.rails_apart_m, 0.002, segments=10)
        post_height = top - self.tray_m / 2
        post = rounded_cylinder(0.004, post_height, 0.002, segments=12)
        parts = [rail.at(0.0, sign * half, top) for sign in (-1.0, 1.0)]
        reach = self.length_m / 2 - 0.012
        for x in np.linspace(-reach, reach, 15):
            parts.append(wire.along("y").at(float(x), 0.0, top))
        for x in (-reach, 0.0, reach):
            for sign in (-1.0, 1.0):
                parts.append(post.at(x, sign * half, self.tray_m / 2 + post_height / 2))
        return parts
