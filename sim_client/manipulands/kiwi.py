"""A kiwi."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Ellipsoid
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody, SpatialInertia

from sim_client.manipulands.manipuland import (
    Colour,
    add_body,
    collide,
    compliant_properties,
    show,
)
from sim_client.surfaces import lathe

BROWN: Colour = (0.50, 0.36, 0.16)
DARK_BROWN: Colour = (0.20, 0.13, 0.07)


@dataclass(frozen=True, kw_only=True)
class Kiwi:
    """A whole kiwi, its long axis along x, its frame's origin at its centre."""

    name: str = "kiwi"
    fixed: bool = False
    half_length_m: float = 0.033
    half_width_m: float = 0.025
    half_height_m: float = 0.024
    mass_kg: float = 0.09
    colour: Colour = BROWN

    @property
    def radius_m(self) -> float:
        return self.half_length_m

    @property
    def rest_height_m(self) -> float:
        return self.half_height_m

    @property
    def top_m(self) -> float:
        return self.half_height_m

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        a, b, c = self.half_length_m, self.half_width_m, self.half_height_m
        inertia = SpatialInertia.SolidEllipsoidWithMass(self.mass_kg, a, b, c)
        body = add_body(plant, self.name, inertia)
        collide(
            plant,
            body,
            [(Ellipsoid(a, b, c), (0.0, 0.0, 0.0))],
            compliant_properties(resolution_hint_m=0.02),
        )
        angles = np.linspace(-np.pi / 2, np.pi / 2, 25)
        profile = [(b * float(np.cos(t)), a * float(np.sin(t))) for t in angles]
        skin = lathe(profile, segments=40).along("x")
        # The blossom's end, a little rosette.
        end = lathe([(0.006, 0.968 * a), (0.0045, a + 0.0012), (0.0, a + 0.0004)]).along("x")
        show(plant, body, {"skin": (skin, self.colour), "end": (end, DARK_BROWN)})
        return body
