"""What must be true of a layout; others are drawn again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from sim_client.manipulands.manipuland import Manipuland
from sim_client.station.workspace import BASE_POSITIONS_M, REACH_M
from sim_client.tasks.placement import Layout


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
        return distance_m - objects[self.name].radius_m > REACH_M + 0.08
