"""Round, leaning walls for contact: a ring of thin boxes, as a bowl's side or a plate's rim."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box, ProximityProperties
from pydrake.math import RigidTransform, RollPitchYaw
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.drake_arrays import drake_array


@dataclass(frozen=True, kw_only=True)
class Ring:
    """A regular polygon's sides, each a box that leans outward; the first is across the x axis.

    bottom_m, top_m: (radius, height) of the inner face's lower and upper edge, at a side's middle.
    wall_m: the boxes' thickness, outside of the inner face.
    """

    num_sides: int
    bottom_m: tuple[float, float]
    top_m: tuple[float, float]
    wall_m: float

    @property
    def lean_rad(self) -> float:
        """From the vertical, outward."""
        return float(np.arctan2(self.top_m[0] - self.bottom_m[0], self.top_m[1] - self.bottom_m[1]))

    @property
    def side_angle_rad(self) -> float:
        """From the middle of one side to the next."""
        return 2.0 * np.pi / self.num_sides

    def add_to(
        self, plant: MultibodyPlant, body: RigidBody, properties: ProximityProperties
    ) -> None:
        bottom, top = np.array(self.bottom_m), np.array(self.top_m)
        slant_m = float(np.linalg.norm(top - bottom))
        outward = np.array([np.cos(self.lean_rad), -np.sin(self.lean_rad)])
        radius_m, height_m = (bottom + top) / 2 + self.wall_m / 2 * outward
        # As long as the side of the polygon through the boxes' outer upper edges.
        chord_m = 2.0 * float(top[0] + self.wall_m) * np.tan(self.side_angle_rad / 2)
        for i in range(self.num_sides):
            angle = i * self.side_angle_rad
            centre = [radius_m * np.cos(angle), radius_m * np.sin(angle), height_m]
            plant.RegisterCollisionGeometry(
                body,
                RigidTransform(RollPitchYaw(0.0, self.lean_rad, angle), drake_array(centre)),
                Box(self.wall_m, chord_m, slant_m),
                f"{body.name()}_side_{i}",
                properties,
            )
