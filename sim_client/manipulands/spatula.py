"""A slotted spatula."""

from __future__ import annotations

from dataclasses import dataclass

from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody, SpatialInertia

from sim_client.drake_arrays import drake_array
from sim_client.manipulands.manipuland import (
    Colour,
    Resting,
    add_body,
    collide,
    compliant_properties,
    show,
)
from sim_client.surfaces import Surface, capsule_between, merged, rounded_box

_BEECH: Colour = (0.72, 0.47, 0.24)
_CORAL: Colour = (0.93, 0.33, 0.22)
_NUM_SLOTS = 3


@dataclass(frozen=True, kw_only=True)
class Spatula(Resting):
    """It lies flat with its origin under the middle of the handle, the blade along x."""

    name: str = "spatula"
    fixed: bool = False
    handle_m: tuple[float, float, float] = (0.160, 0.025, 0.020)
    blade_m: tuple[float, float, float] = (0.075, 0.054, 0.008)
    mass_kg: float = 0.09
    colour: Colour = _CORAL
    handle_colour: Colour = _BEECH

    @property
    def radius_m(self) -> float:
        return self.handle_m[0] / 2 + self.blade_m[0]

    @property
    def top_m(self) -> float:
        return self.handle_m[2]

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        handle_at = (0.0, 0.0, self.handle_m[2] / 2)
        blade_at = ((self.handle_m[0] + self.blade_m[0]) / 2, 0.0, self.blade_m[2] / 2)
        share = 0.6
        inertia = SpatialInertia.SolidBoxWithMass(share * self.mass_kg, *self.handle_m).Shift(
            drake_array([-x for x in handle_at])
        )
        inertia += SpatialInertia.SolidBoxWithMass(
            (1.0 - share) * self.mass_kg, *self.blade_m
        ).Shift(drake_array([-x for x in blade_at]))
        body = add_body(plant, self.name, inertia)
        collide(
            plant,
            body,
            [(Box(*self.handle_m), handle_at), (Box(*self.blade_m), blade_at)],
            compliant_properties(resolution_hint_m=0.02),
        )
        show(
            plant,
            body,
            {"handle": (self._handle(), self.handle_colour), "blade": (self._blade(), self.colour)},
        )
        return body

    def _handle(self) -> Surface:
        fillet = 0.45 * min(self.handle_m[1:])
        return rounded_box(self.handle_m, fillet, steps=5).at(0.0, 0.0, self.handle_m[2] / 2)

    def _blade(self) -> Surface:
        """Strips between slots, a bar at either end, and a neck that rises into the handle."""
        length = self.handle_m[0]
        blade, breadth, thickness = self.blade_m
        near, middle = length / 2, thickness / 2
        bar = 0.016
        num_strips = _NUM_SLOTS + 1
        gap = 0.005
        strip = (breadth - _NUM_SLOTS * gap) / num_strips
        fillet = 0.45 * thickness
        parts = [
            rounded_box((bar, breadth, thickness), fillet).at(near + bar / 2, 0.0, middle),
            rounded_box((bar, breadth, thickness), fillet).at(near + blade - bar / 2, 0.0, middle),
        ]
        for i in range(num_strips):
            y = -breadth / 2 + strip / 2 + i * (strip + gap)
            parts.append(
                rounded_box((blade, strip, thickness), fillet).at(near + blade / 2, y, middle)
            )
        radius = 0.3 * self.handle_m[1]
        parts.append(
            capsule_between(
                (near - 0.012, 0.0, self.handle_m[2] / 2),
                (near + 0.012, 0.0, 0.75 * thickness),
                radius,
                end_radius=0.5 * radius,
            )
        )
        return merged(parts)
