"""A deep stoneware plate."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    TEAL,
    Colour,
    Resting,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_cylinder,
)
from sim_client.manipulands.ring import Ring
from sim_client.surfaces import lathe

_NUM_SIDES = 12


@dataclass(frozen=True, kw_only=True)
class Plate(Resting):
    """A plate whose rim is steep enough to be pinched from above; plates nest with play.

    It is heavy, as stoneware is: pinched on one side alone it tilts out of the fingers.
    """

    name: str = "plate"
    fixed: bool = False
    radius_m: float = 0.100
    rim_height_m: float = 0.042
    rim_base_radius_m: float = 0.080
    rim_base_m: float = 0.007
    wall_m: float = 0.0035
    foot_radius_m: float = 0.062
    well_m: float = 0.016
    mass_kg: float = 0.55
    colour: Colour = CREAM
    band_colour: Colour = TEAL

    @property
    def top_m(self) -> float:
        """The bottom of the well: another plate stands in it."""
        return self.well_m

    @property
    def rim(self) -> Ring:
        return Ring(
            num_sides=_NUM_SIDES,
            bottom_m=(self.rim_base_radius_m, self.rim_base_m),
            top_m=(self.radius_m - self.wall_m, self.rim_height_m),
            wall_m=self.wall_m,
        )

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        body = add_body(
            plant, self.name, standing_cylinder(self.mass_kg, self.radius_m, self.rim_height_m / 2)
        )
        properties = compliant_properties(resolution_hint_m=0.065)
        base = Cylinder(self.foot_radius_m, self.well_m)
        collide(plant, body, [(base, (0.0, 0.0, self.well_m / 2))], properties)
        self.rim.add_to(plant, body, properties)
        self._show(plant, body)
        return body

    def _show(self, plant: MultibodyPlant, body: RigidBody) -> None:
        r, w, h = self.radius_m, self.wall_m, self.rim_height_m
        base_r, base_z, well = self.rim_base_radius_m, self.rim_base_m, self.well_m
        outside = lathe(
            [
                (0.0, 0.002),
                (self.foot_radius_m - 0.006, 0.002),
                (self.foot_radius_m - 0.005, 0.0),
                (self.foot_radius_m, 0.0),
                (self.foot_radius_m + 0.001, base_z - 0.002),
                (base_r - 0.004, base_z - 0.001),
                (base_r + w, base_z + 0.002),
                (r - 0.0004, h - 0.0015),
                (r - 0.001, h - 0.0003),
                (r - w / 2, h),
            ],
            segments=72,
        )
        share = np.linspace(1.0, 0.0, 6)
        # The inside is rounded where the rim meets the well.
        rim = [(base_r + s * (r - w - base_r), base_z + s * (h - base_z)) for s in (0.96, 0.55)]
        foot_of_rim = [
            (
                base_r - 0.012 + 0.020 * float(np.sin(s * 1.1)),
                well - 0.0005 + 0.012 * float(1.0 - np.cos(s * 1.1)),
            )
            for s in share
        ]
        inside = lathe(
            [(r - w / 2, h), (r - w + 0.0005, h - 0.0006), *rim, *foot_of_rim, (0.0, well)],
            segments=72,
        )
        band = lathe(
            [
                (base_r - 0.0155, well + 0.0002),
                (base_r - 0.017, well + 0.0004),
                (base_r - 0.0185, well + 0.0002),
            ],
            segments=72,
        )
        show(
            plant,
            body,
            {
                "outside": (outside, self.band_colour),
                "inside": (inside, self.colour),
                "band": (band, self.band_colour),
            },
        )
