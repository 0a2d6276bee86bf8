"""Objects that no task speaks of, and where they stand in no task's way."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import combinations
from typing import Literal

import numpy as np
from pydrake.geometry import Box, Cylinder
from pydrake.multibody.plant import MultibodyPlant
from pydrake.multibody.tree import RigidBody

from sim_client.manipulands.manipuland import (
    CREAM,
    Colour,
    add_body,
    collide,
    compliant_properties,
    show,
    standing_box,
    standing_cylinder,
)
from sim_client.station.panda_kinematics import Array
from sim_client.surfaces import lathe, rounded_box
from sim_client.tasks.placement import Layout
from sim_client.tasks.random_streams import stream
from sim_client.tasks.scene_state import planar_pose
from sim_client.tasks.task import Task

Kind = Literal["tin", "block"]
KINDS: tuple[Kind, ...] = ("tin", "block")

# Where a camera sees a distractor and an arm's own base does not stand.
_X_M = (-0.22, 0.34)
_Y_M = (-0.56, 0.56)
_GAP_M = 0.05
"""Between a distractor and whatever else stands there: room for an open finger."""
_CORRIDOR_M = 0.05
"""From the straight way between two things of the task to a distractor's edge."""
_MAX_DRAWS = 2000


class NoRoomError(RuntimeError):
    """The table is too full for the distractors."""


@dataclass(frozen=True, kw_only=True)
class Distractor:
    """A tin or a wooden block, low enough for hands to pass over it."""

    name: str
    kind: Kind
    colour: Colour
    fixed: bool = False
    radius_m: float = 0.03
    height_m: float = 0.06
    mass_kg: float = 0.2

    @property
    def rest_height_m(self) -> float:
        return 0.0

    @property
    def top_m(self) -> float:
        return self.height_m

    def add_to(self, plant: MultibodyPlant) -> RigidBody:
        r, h = self.radius_m, self.height_m
        middle = (0.0, 0.0, h / 2)
        contact = compliant_properties(resolution_hint_m=0.03)
        if self.kind == "tin":
            body = add_body(plant, self.name, standing_cylinder(self.mass_kg, r, h))
            collide(plant, body, [(Cylinder(r, h), middle)], contact)
            rim = [(r - 0.002, 0.0), (r, 0.002), (r, h - 0.002), (r - 0.002, h)]
            lid = [(r - 0.003, h), (r - 0.004, h - 0.002), (0.0, h - 0.002)]
            label = [(r + 0.0004, 0.18 * h), (r + 0.0004, 0.82 * h)]
            parts = {
                "wall": (lathe([(0.0, 0.0), *rim, *lid]), (0.72, 0.74, 0.76)),
                "label": (lathe(label), self.colour),
            }
        else:
            # The footprint's circle goes through the corners.
            side = float(np.sqrt(2.0)) * r
            size = (side, side, h)
            body = add_body(plant, self.name, standing_box(self.mass_kg, size))
            collide(plant, body, [(Box(*size), middle)], contact)
            band = (side + 0.0008, side + 0.0008, 0.2 * h)
            parts = {
                "sides": (rounded_box(size, 0.004).at(*middle), self.colour),
                "band": (rounded_box(band, 0.002).at(*middle), CREAM),
            }
        show(plant, body, parts)
        return body


def place_distractors(
    distractors: tuple[Distractor, ...], task: Task, layout: Layout, *, seed: int, attempt: int
) -> Layout:
    """Where they stand, X_TO (4, 4) by name, each a draw from a stream of its own.

    They touch nothing, and leave free the straight ways between the task's objects and the places
    that its success speaks of. Raises NoRoomError.
    """
    stays_clear = [
        (layout[item.name][:2, 3], item.radius_m + _GAP_M)
        for item in task.objects
        if task.placements[item.name].on is None
    ]
    ways = list(combinations([point for point, _ in stays_clear] + _places(task), 2))
    placed: dict[str, Array] = {}
    for item in distractors:
        rng = stream(seed, f"shift.{item.name}.place", attempt=attempt)
        for _ in range(_MAX_DRAWS):
            point = np.array([rng.uniform(*_X_M), rng.uniform(*_Y_M)])
            yaw_rad = rng.uniform(-np.pi, np.pi)
            is_free = all(
                np.linalg.norm(point - other) > radius_m + item.radius_m
                for other, radius_m in stays_clear
            ) and all(
                _distance_to_way(point, start, end) > _CORRIDOR_M + item.radius_m
                for start, end in ways
            )
            if is_free:
                break
        else:
            raise NoRoomError(
                f"{task.name}: no room for {len(distractors)} distractors in {_MAX_DRAWS} draws "
                f"of seed {seed}"
            )
        placed[item.name] = planar_pose(float(point[0]), float(point[1]), 0.0, yaw_rad)
        stays_clear.append((point, item.radius_m + _GAP_M))
    return placed


def _places(task: Task) -> list[Array]:
    """The places on the table that success asks for, besides objects."""
    places = [getattr(predicate, "place_m", None) for predicate in task.success]
    return [np.array(place) for place in places if place is not None]


def _distance_to_way(point: Array, start: Array, end: Array) -> float:
    along = end - start
    share = np.clip((point - start) @ along / max(float(along @ along), 1e-12), 0.0, 1.0)
    return float(np.linalg.norm(point - start - share * along))
