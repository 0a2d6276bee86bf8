"""A low shelf."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pydrake.geometry import Box
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    Array,
    Colour,
    Resting,
    add_body,
    collide,
    rigid_properties,
    show,
    standing_box,
)
from sim_client.surfaces import merged, rounded_box

OAK: Colour = (0.60, 0.42, 0.25)


@dataclass(frozen=True, kw_only=True)
class Shelf(Resting):
    """A board on two walls, fixed to the table and open along x, toward the arms.

    margin_m: how far behind the front edge a point must be to count as under the shelf.
    """

    name: str = "shelf"
    fixed: bool = True
    inner_m: tuple[float, float, float] = (0.220, 0.430, 0.090)
    board_m: float = 0.014
    margin_m: float = 0.065
    colour: Colour = OAK

    @property
    def radius_m(self) -> float:
        return float(np.hypot(self.inner_m[0], self.inner_m[1] + 2 * self.board_m) / 2)

    @property
    def top_m(self) -> float:
        return self.inner_m[2] + self.board_m

    def contains(self, p_CO: Array) -> bool:
        """Between the walls, under the board and behind the front edge by the margin."""
        depth, width, height = self.inner_m
        return bool(
            -depth / 2 + self.margin_m < p_CO[0] < depth / 2
            and abs(p_CO[1]) < width / 2
            and -0.005 < p_CO[2] < height
        )

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        depth, width, height = self.inner_m
        board = self.board_m
        outer = (depth, width + 2 * board, self.top_m)
        body = add_body(plant, self.name, standing_box(1.5, outer))
        reach = (width + board) / 2
        shapes: list[tuple[tuple[float, float, float], tuple[float, float, float]]] = [
            ((depth, outer[1], board), (0.0, 0.0, height + board / 2)),
            ((depth, board, height), (0.0, reach, height / 2)),
            ((depth, board, height), (0.0, -reach, height / 2)),
        ]
        collide(plant, body, [(Box(*size), at) for size, at in shapes], rigid_properties())
        boards = merged([rounded_box(size, 0.003).at(*at) for size, at in shapes])
        show(plant, body, {"boards": (boards, self.colour)})
        return body
