"""The same task with its objects placed in wider ranges, and still possible."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from itertools import combinations, product

import numpy as np

from sim_client.manipulands.manipuland import Manipuland
from sim_client.station.panda_kinematics import Array
from sim_client.station.workspace import BASE_POSITIONS_M, REACH_M, SIDES
from sim_client.tasks.placement import Layout, Placement, Range
from sim_client.tasks.preconditions import Apart, Precondition
from sim_client.tasks.task import Task

_FRONT_M, _BACK_M, _HALF_WIDTH_M = -0.22, 0.45, 0.62
"""How far over the table objects may be spread: x of its two ends, and y on both sides."""
_MAX_YAW_RAD = np.pi / 2
_GAP_M = 0.03
"""Between things whose nominal ranges never meet."""


@dataclass(frozen=True)
class WithinReachOf:
    """At least so many arms reach an object."""

    name: str
    num_arms: int

    def holds(self, layout: Layout, objects: Mapping[str, Manipuland]) -> bool:
        return num_arms_reaching(layout[self.name][:2, 3]) >= self.num_arms


def num_arms_reaching(point_m: Array) -> int:
    distances = [np.linalg.norm(point_m - BASE_POSITIONS_M[side][:2]) for side in SIDES]
    return sum(bool(distance < REACH_M) for distance in distances)


def with_wider_placements(task: Task, *, factor: float) -> Task:
    """Every range on the table `factor` times as wide, about its middle.

    An object is still reached by as many arms as reach it everywhere in its nominal range, and
    objects that were always apart still are; the task's own preconditions hold as before.
    """
    on_table = {name: place for name, place in task.placements.items() if place.on is None}
    objects = task.objects_by_name
    preconditions: list[Precondition] = [*task.preconditions]
    for name, place in on_table.items():
        corners = [np.array(corner) for corner in product(place.x_m, place.y_m)]
        num_arms = min(num_arms_reaching(corner) for corner in corners)
        preconditions.append(WithinReachOf(name, num_arms))
    for first, second in combinations(on_table, 2):
        radii_m = objects[first].radius_m + objects[second].radius_m
        gap_m = _distance(on_table[first], on_table[second]) - radii_m
        if gap_m > 0.0:
            preconditions.append(Apart(first, second, gap_m=min(gap_m, _GAP_M)))
    return replace(
        task,
        placements={
            name: _widened(place, factor) if name in on_table else place
            for name, place in task.placements.items()
        },
        preconditions=tuple(preconditions),
    )


def _widened(place: Placement, factor: float) -> Placement:
    return replace(
        place,
        x_m=_wider(place.x_m, factor, (_FRONT_M, _BACK_M)),
        y_m=_wider(place.y_m, factor, (-_HALF_WIDTH_M, _HALF_WIDTH_M)),
        yaw_rad=_wider(place.yaw_rad, factor, _yaw_bounds(place.yaw_rad)),
    )


def _yaw_bounds(nominal: Range) -> Range:
    """Within a quarter turn of the middle: further round, a hand may find no way to grasp."""
    middle = (nominal[0] + nominal[1]) / 2
    return middle - _MAX_YAW_RAD, middle + _MAX_YAW_RAD


def _wider(nominal: Range, factor: float, bounds: Range) -> Range:
    """About its middle, within bounds, and never narrower than it was."""
    lower, upper = nominal
    middle, half = (lower + upper) / 2, factor * (upper - lower) / 2
    return min(lower, max(middle - half, bounds[0])), max(upper, min(middle + half, bounds[1]))


def _distance(first: Placement, second: Placement) -> float:
    """The least between a place of one range and a place of the other."""
    gap_x_m, gap_y_m = (
        max(a[0] - b[1], b[0] - a[1], 0.0)
        for a, b in ((first.x_m, second.x_m), (first.y_m, second.y_m))
    )
    return float(np.hypot(gap_x_m, gap_y_m))
