"""Where objects may start, and how a seed becomes one layout of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np

from sim_client.manipulands.manipuland import Manipuland
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import Array, planar_pose

Layout = Mapping[str, Array]
"""Where each object starts: X_TO (4, 4) by the object's name."""
Range = tuple[float, float]
Orientation = Literal["upright", "upside_down", "lying"]

_TURNS: Mapping[Orientation, Array] = {
    "upright": np.eye(3),
    "upside_down": np.diag([1.0, -1.0, -1.0]),
    # The object's z axis lies along the x axis that the yaw turns.
    "lying": np.array([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0], [-1.0, 0.0, 0.0]]),
}


@dataclass(frozen=True, kw_only=True)
class Placement:
    """A uniform distribution over an object's start, in the task frame or another object's.

    x_m, y_m, yaw_rad, spin_rad: (lower, upper), each drawn from a stream of its own.
    spin_rad: about the object's own z axis first: which way a lying mug's handle points.
    on: the object whose frame, at the height of its `top_m`, the numbers are in; the table
    without one. height_m: of the origin over that; by default the object's `rest_height_m`.
    """

    x_m: Range
    y_m: Range
    yaw_rad: Range = (0.0, 0.0)
    spin_rad: Range = (0.0, 0.0)
    orientation: Orientation = "upright"
    on: str | None = None
    height_m: float | None = None

    def __post_init__(self) -> None:
        for name in ("x_m", "y_m", "yaw_rad", "spin_rad"):
            lower, upper = getattr(self, name)
            if lower > upper:
                raise ValueError(f"{name}: expected (lower, upper), got {(lower, upper)}")

    def sample(self, item: Manipuland, seed: int, *, attempt: int, mirrored: bool) -> Array:
        """X_PO (4, 4) in the frame that `on` names. mirrored: y and yaw with the other sign."""

        def draw(field: str, bounds: Range) -> float:
            return float(stream(seed, f"{item.name}.{field}", attempt=attempt).uniform(*bounds))

        sign = -1.0 if mirrored else 1.0
        height_m = item.rest_height_m if self.height_m is None else self.height_m
        X = planar_pose(
            draw("x", self.x_m),
            sign * draw("y", self.y_m),
            height_m,
            sign * draw("yaw", self.yaw_rad),
        )
        spin = planar_pose(0.0, 0.0, 0.0, sign * draw("spin", self.spin_rad))
        X[:3, :3] = X[:3, :3] @ _TURNS[self.orientation] @ spin[:3, :3]
        return X


def sample_layout(
    objects: Mapping[str, Manipuland],
    placements: Mapping[str, Placement],
    seed: int,
    *,
    attempt: int,
    mirrored: bool,
) -> Layout:
    """One draw of every object, in the order of `placements`; supports come before what is on."""
    layout: dict[str, Array] = {}
    for name, placement in placements.items():
        X = placement.sample(objects[name], seed, attempt=attempt, mirrored=mirrored)
        if placement.on is not None:
            support = objects[placement.on]
            X = layout[placement.on] @ planar_pose(0.0, 0.0, support.top_m, 0.0) @ X
        layout[name] = X
    return layout
