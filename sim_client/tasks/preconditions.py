"""What must be true of a layout; others are drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sim_client.manipulands.manipuland import Manipuland
from sim_client.station.workspace import BASE_POSITIONS_M, REACH_M
from sim_client.tasks.placement import Layout
from sim_client.tasks.scene_state import Array

_BEYOND_REACH_M = 0.08
"""Farther than the reach by this, a thing is out of it for certain."""


class Precondition(Protocol):
    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool: ...


@dataclass(frozen=True)
class Apart:
    """At least `gap_m` between two objects' footprint circles, seen from above."""

    first: str
    second: str
    gap_m: float

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        offset = layout[self.first][:2, 3] - layout[self.second][:2, 3]
        radii = objects[self.first].radius_m + objects[self.second].radius_m
        return float(np.linalg.norm(offset)) - radii > self.gap_m


@dataclass(frozen=True)
class OutsideSquare:
    """An object's origin at least `gap_m` outside another's square footprint of `side_m`."""

    name: str
    square: str
    side_m: float
    gap_m: float

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        X_SO = np.linalg.inv(layout[self.square]) @ layout[self.name]
        return bool(np.abs(X_SO[:2, 3]).max() - self.side_m / 2 > self.gap_m)


@dataclass(frozen=True)
class AwayFrom:
    """An object's origin at least `distance_m` from a place on the table."""

    name: str
    place_m: tuple[float, float]
    distance_m: float

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        offset = layout[self.name][:2, 3] - np.array(self.place_m)
        return float(np.linalg.norm(offset)) > self.distance_m


@dataclass(frozen=True)
class WithinReach:
    """An object within an arm's reach, or, with `reachable` False, certainly out of it."""

    name: str
    side: str
    reachable: bool = True

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        base = np.array(BASE_POSITIONS_M[self.side][:2])
        distance_m = float(np.linalg.norm(layout[self.name][:2, 3] - base))
        if self.reachable:
            return distance_m < REACH_M
        return distance_m - objects[self.name].radius_m > REACH_M + _BEYOND_REACH_M


@dataclass(frozen=True)
class ClearWay:
    """An obstacle leaves room to push an object straight to a place on the table.

    gap_m: at least, between the obstacle's footprint circle and the strip that the object's sweeps.
    behind_m: how far the strip reaches behind the object, where the hand stands.
    """

    name: str
    obstacle: str
    gap_m: float
    behind_m: float
    place_m: tuple[float, float] = (0.0, 0.0)

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        start, place = layout[self.name][:2, 3], np.array(self.place_m)
        along = place - start
        distance_m = float(np.linalg.norm(along))
        along /= max(distance_m, 1e-9)
        offset = layout[self.obstacle][:2, 3] - start
        nearest = np.clip(offset @ along, -self.behind_m, distance_m) * along
        radii = objects[self.name].radius_m + objects[self.obstacle].radius_m
        return float(np.linalg.norm(offset - nearest)) - radii > self.gap_m


@dataclass(frozen=True)
class OneForEachArm:
    """One arm reaches the first thing and certainly not the second, the other arm the reverse.

    What must come from the one to the other then takes both arms, whichever side is which.
    *_margin_m: how far from each origin a hand could still do its work there.
    """

    first: str
    second: str
    first_margin_m: float
    second_margin_m: float

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        first = self._reaching(layout[self.first], self.first_margin_m)
        second = self._reaching(layout[self.second], self.second_margin_m)
        return first is not None and second is not None and first != second

    def _reaching(self, X_TO: Array, margin_m: float) -> str | None:
        """The side whose arm reaches the origin, where the other's certainly doesn't."""
        distances_m = {
            side: float(np.linalg.norm(X_TO[:2, 3] - np.array(base[:2])))
            for side, base in BASE_POSITIONS_M.items()
        }
        near, far = sorted(distances_m, key=lambda side: distances_m[side])
        clear = distances_m[far] - margin_m > REACH_M + _BEYOND_REACH_M
        return near if clear and distances_m[near] < REACH_M else None
