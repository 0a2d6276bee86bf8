"""A banana."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box, Capsule
from pydrake.math import RigidTransform, RollPitchYaw
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody, SpatialInertia

from sim_client.drake_arrays import drake_array
from sim_client.manipulands.manipuland import (
    Array,
    Colour,
    add_body,
    collide,
    compliant_properties,
    show,
)
from sim_client.surfaces import Surface, tube

BANANA_YELLOW: Colour = (0.98, 0.80, 0.14)
STEM: Colour = (0.45, 0.40, 0.12)
TIP: Colour = (0.20, 0.14, 0.08)

# Where along the arc (-1 the flower's end, 1 the stem's) the fruit is how thick (share of the
# greatest radius), and where it changes colour.
_THICKNESS = (
    (-1.00, 0.03),
    (-0.995, 0.14),
    (-0.975, 0.20),
    (-0.955, 0.26),
    (-0.90, 0.50),
    (-0.80, 0.76),
    (-0.60, 0.94),
    (-0.30, 1.00),
    (0.20, 1.00),
    (0.50, 0.92),
    (0.66, 0.74),
    (0.78, 0.46),
    (0.84, 0.34),
    (0.96, 0.30),
    (0.99, 0.31),
    (1.00, 0.03),
)
_TIP_ENDS, _STEM_BEGINS = -0.955, 0.84


@dataclass(frozen=True, kw_only=True)
class Banana:
    """A banana on its side, curved toward y, its frame's origin in its middle.

    Its thick middle touches as a box, so that it lies still instead of rolling, and its tapering
    ends as two thinner capsules that don't reach the table.
    """

    name: str = "banana"
    fixed: bool = False
    half_arc_m: float = 0.085
    bend_radius_m: float = 0.115
    half_thickness_m: float = 0.0165
    mass_kg: float = 0.12
    colour: Colour = BANANA_YELLOW

    @property
    def radius_m(self) -> float:
        return float(np.linalg.norm(self._on_arc(1.0)))

    @property
    def rest_height_m(self) -> float:
        return self.half_thickness_m

    @property
    def top_m(self) -> float:
        return self.half_thickness_m

    def _on_arc(self, share: float) -> Array:
        """(3,) of the curved axis, from -1 at one end to 1 at the other."""
        angle = share * self.half_arc_m / self.bend_radius_m
        return self.bend_radius_m * np.array([np.sin(angle), 1.0 - np.cos(angle), 0.0])

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        t = self.half_thickness_m
        bend = self.half_arc_m / self.bend_radius_m
        middle_y = self.bend_radius_m * (1.0 - np.sin(bend) / bend)
        span = 2.0 * float(self._on_arc(1.0)[0])
        about_middle = SpatialInertia.SolidBoxWithMass(self.mass_kg, span, 2.2 * t, 1.6 * t)
        body = add_body(plant, self.name, about_middle.Shift(drake_array([0.0, -middle_y, 0.0])))
        properties = compliant_properties(resolution_hint_m=0.02)
        flat_m = 0.5 * self.half_arc_m
        collide(plant, body, [(Box(flat_m, 2 * t, 2 * t), (0.0, 0.0, 0.0))], properties)
        for label, sign in (("stem", 1.0), ("tip", -1.0)):
            inner, outer = self._on_arc(0.30 * sign), self._on_arc(0.82 * sign)
            along = outer - inner
            pose = RigidTransform(
                RollPitchYaw(np.pi / 2, 0.0, float(np.arctan2(along[1], along[0])) + np.pi / 2),
                drake_array((inner + outer) / 2),
            )
            shape = Capsule(0.72 * t, float(np.linalg.norm(along)))
            plant.RegisterCollisionGeometry(body, pose, shape, f"{self.name}_{label}", properties)
        show(
            plant,
            body,
            {
                "tip": (self._piece(-1.0, _TIP_ENDS), TIP),
                "fruit": (self._piece(_TIP_ENDS, _STEM_BEGINS), self.colour),
                "stem": (self._piece(_STEM_BEGINS, 1.0), STEM),
            },
        )
        return body

    def _piece(self, start: float, stop: float) -> Surface:
        knots, shares = np.array(_THICKNESS).T
        fine = np.linspace(start, stop, 2 + round(30 * (stop - start)))
        places = np.unique(np.concatenate([fine, knots[(knots > start) & (knots < stop)]]))
        radii = self.half_thickness_m * np.interp(places, knots, shares)
        arc = np.array([self._on_arc(share) for share in places])
        # A tube's path lies in the xz plane; a quarter turn about x lays it on its side.
        lying = np.diag([1.0, 1.0, 1.0, 1.0])
        lying[:3, :3] = np.array([[1.0, 0.0, 0.0], [0.0, 0.0, 1.0], [0.0, -1.0, 0.0]])
        upright = arc @ lying[:3, :3]
        return tube(upright, radii, segments=20).moved(lying)
