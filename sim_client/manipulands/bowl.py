"""A fruit bowl."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    TEAL,
    Array,
    Colour,
    Resting,
    add_body,
    collide,
    rigid_properties,
    show,
    standing_cylinder,
)
from sim_client.manipulands.ring import Ring
from sim_client.surfaces import lathe

_NUM_SIDES = 8
_FLOOR_SHARE = 0.95
"""Of the floor's width, the square's that fruit touches: its corners are still under the rim."""


@dataclass(frozen=True, kw_only=True)
class Bowl(Resting):
    """Wide, shallow and flat inside, so that a hand fits in beside a fruit; fixed to the table."""

    name: str = "bowl"
    fixed: bool = True
    rim_radius_m: float = 0.098
    floor_radius_m: float = 0.074
    height_m: float = 0.048
    wall_m: float = 0.005
    floor_m: float = 0.006
    colour: Colour = TEAL

    @property
    def radius_m(self) -> float:
        return self.rim_radius_m

    @property
    def top_m(self) -> float:
        return self.floor_m

    def contains(self, p_CO: Array) -> bool:
        """Within the wall, which leans outward, and below its edge."""
        x, y, z = p_CO
        share = float(np.clip((z - self.floor_m) / (self.height_m - self.floor_m), 0.0, 1.0))
        inner_m = self.floor_radius_m + share * (self._rim_inner_m - self.floor_radius_m)
        return bool(np.hypot(x, y) < inner_m and 0.0 <= z < self.height_m)

    @property
    def _rim_inner_m(self) -> float:
        return self.rim_radius_m - self.wall_m

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        body = add_body(plant, self.name, standing_cylinder(0.5, self.rim_radius_m, self.height_m))
        # Few triangles do: it is flat where two fruits stand on it most of the time.
        properties = rigid_properties(resolution_hint_m=0.2)
        side_m = _FLOOR_SHARE * 2 * self.floor_radius_m
        floor = Box(side_m, side_m, self.floor_m)
        collide(plant, body, [(floor, (0.0, 0.0, self.floor_m / 2))], properties)
        Ring(
            num_sides=_NUM_SIDES,
            bottom_m=(self.floor_radius_m, self.floor_m),
            top_m=(self._rim_inner_m, self.height_m),
            wall_m=self.wall_m,
        ).add_to(plant, body, properties)
        self._show(plant, body)
        return body

    def _show(self, plant: MultibodyPlant, body: RigidBody) -> None:
        # A quarter of an ellipse from the foot to the rim, inside and outside of the contact walls.
        rim, floor, height = self.rim_radius_m, self.floor_radius_m, self.height_m
        angles = np.linspace(-np.pi / 2, -0.12, 14)
        outer = [
            (
                floor - 0.022 + (rim - floor + 0.022) * float(np.cos(a)),
                height - 0.003 + (height - 0.007) * float(np.sin(a)),
            )
            for a in angles
        ]
        outside = lathe(
            [
                (0.0, 0.0),
                (floor - 0.024, 0.0),
                (floor - 0.022, 0.004),
                *outer,
                (rim, height - 0.002),
                (rim - 0.0010, height - 0.0004),
                (rim - self.wall_m / 2, height),
            ],
            segments=64,
        )
        inner = [
            (
                floor - 0.022 + (rim - self.wall_m - floor + 0.022) * float(np.cos(a)),
                height - 0.002 + (height - 0.002 - self.floor_m) * float(np.sin(a)),
            )
            for a in angles[::-1]
        ]
        inside = lathe(
            [
                (rim - self.wall_m / 2, height),
                (rim - self.wall_m + 0.0008, height - 0.0006),
                *inner,
                (0.0, self.floor_m),
            ],
            segments=64,
        )
        show(plant, body, {"outside": (outside, self.colour), "inside": (inside, CREAM)})
