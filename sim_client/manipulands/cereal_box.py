"""A box of cereal."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    RED,
    YELLOW,
    Colour,
    Resting,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_box,
)
from sim_client.surfaces import Surface, lathe, merged, rounded_box

_NUM_RINGS = 5


@dataclass(frozen=True, kw_only=True)
class CerealBox(Resting):
    """It lies on its back, the printed front up; its long side is along y, its head at -y."""

    name: str = "cereal_box"
    fixed: bool = False
    size_m: tuple[float, float, float] = (0.190, 0.300, 0.060)
    mass_kg: float = 0.45
    colour: Colour = RED
    ring_colour: Colour = YELLOW

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
            compliant_properties(resolution_hint_m=0.05),
        )
        carton = rounded_box(self.size_m, 0.003).at(0.0, 0.0, z / 2)
        # A thin slab of each print stands out of the carton's faces by half a millimetre.
        title = rounded_box((0.62 * x, 0.20 * y, z + 0.001), 0.0005).at(0.0, -0.31 * y, z / 2)
        bowl = lathe(
            [(0.30 * x, z - 0.001), (0.30 * x, z + 0.0004), (0.0, z + 0.0004)], segments=40
        ).at(0.0, 0.12 * y, 0.0)
        show(
            plant,
            body,
            {
                "carton": (carton, self.colour),
                "print": (merged([title, bowl]), CREAM),
                "rings": (self._rings(), self.ring_colour),
            },
        )
        return body

    def _rings(self) -> Surface:
        """What is in the printed bowl."""
        x, y, z = self.size_m
        radius = 0.075 * x
        low, high = z, z + 0.0008
        profile = [(radius, low), (radius, high), (0.45 * radius, high)]
        angles = 2 * np.pi * np.arange(_NUM_RINGS) / _NUM_RINGS
        return merged(
            [
                lathe(profile, segments=20).at(
                    0.17 * x * float(np.cos(a)), 0.12 * y + 0.17 * x * float(np.sin(a)), 0.0
                )
                for a in angles
            ]
        )
