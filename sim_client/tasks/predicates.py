"""What can be asked of a scene's state; a task's success is a composition of these.

Dimensions come from the objects themselves, so a predicate stays right when they are scaled.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Protocol

import numpy as np

from sim_client.manipulands.manipuland import Container, Manipuland
from sim_client.tasks.scene_state import TABLE, SceneState, length

Objects = Mapping[str, Manipuland]


@dataclass(frozen=True, kw_only=True)
class Measure:
    """Whether a predicate holds, and the numbers behind it by name (units in the names)."""

    holds: bool
    values: Mapping[str, float] = field(default_factory=dict)


class Predicate(Protocol):
    """label: its name in records, such as "mug_on_saucer". words: the same as a clause."""

    @property
    def label(self) -> str: ...

    @property
    def words(self) -> str: ...

    def measure(self, state: SceneState, objects: Objects) -> Measure: ...


@dataclass(frozen=True)
class OnTop:
    """The item stands on the support: they touch, it is over its middle and at its height.

    within_m: horizontally, between the two origins. height_tolerance_m: of the item's origin from
    where it would be at rest on the support's `top_m`.
    """

    item: str
    support: str
    within_m: float
    height_tolerance_m: float = 0.012

    @property
    def label(self) -> str:
        return f"{self.item}_on_{self.support}"

    @property
    def words(self) -> str:
        return f"the {self.item} rests on the {self.support}, {_cm(self.within_m)} off at most"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        p_SO = state.pose_in(self.support, self.item)[:3, 3]
        offset_m = length(p_SO[:2])
        rest_m = objects[self.support].top_m + objects[self.item].rest_height_m
        return Measure(
            holds=state.touching(self.item, self.support)
            and offset_m < self.within_m
            and abs(float(p_SO[2]) - rest_m) < self.height_tolerance_m,
            values={f"{self.item}_to_{self.support}_m": offset_m},
        )


@dataclass(frozen=True)
class Stacked:
    """One item is on the table, and each of the others on top of the one below, in any order."""

    items: tuple[str, ...]
    within_m: float
    height_tolerance_m: float = 0.012

    @property
    def label(self) -> str:
        return "_and_".join(self.items) + "_stacked"

    @property
    def words(self) -> str:
        names = " and the ".join(self.items)
        return f"the {names} are stacked on the table, each {_cm(self.within_m)} off at most"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        lowest_first = sorted(self.items, key=lambda item: float(state.position_m(item)[2]))
        steps = [
            OnTop(upper, lower, self.within_m, self.height_tolerance_m).measure(state, objects)
            for lower, upper in pairwise(lowest_first)
        ]
        return Measure(
            holds=state.touching(lowest_first[0], TABLE) and all(step.holds for step in steps),
            values={
                f"{self.label}_widest_offset_m": max(
                    offset_m for step in steps for offset_m in step.values.values()
                )
            },
        )


@dataclass(frozen=True)
class Inside:
    """The item's origin is within the container's inner space."""

    item: str
    container: str

    @property
    def label(self) -> str:
        return f"{self.item}_in_{self.container}"

    @property
    def words(self) -> str:
        return f"the {self.item} is in the {self.container}"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        container = objects[self.container]
        assert isinstance(container, Container), f"{self.container} is no container"
        p_CO = state.pose_in(self.container, self.item)[:3, 3]
        return Measure(
            holds=container.contains(p_CO),
            values={f"{self.item}_to_{self.container}_m": length(p_CO[:2])},
        )


@dataclass(frozen=True)
class NearPlace:
    """The item's origin is within `within_m` of a place, seen from above."""

    item: str
    within_m: float
    place_m: tuple[float, float] = (0.0, 0.0)
    place: str = "centre"

    @property
    def label(self) -> str:
        return f"{self.item}_at_{self.place}"

    @property
    def words(self) -> str:
        return f"the {self.item} is within {_cm(self.within_m)} of the table's {self.place}"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        offset = state.position_m(self.item)[:2] - np.array(self.place_m)
        distance_m = length(offset)
        return Measure(
            holds=distance_m < self.within_m,
            values={f"{self.item}_to_{self.place}_m": distance_m},
        )


@dataclass(frozen=True)
class NextTo:
    """Between two objects' footprint circles there is at most `gap_m`; neither is on the other."""

    item: str
    other: str
    gap_m: float

    @property
    def label(self) -> str:
        return f"{self.item}_by_{self.other}"

    @property
    def words(self) -> str:
        return f"at most {_cm(self.gap_m)} between the {self.item} and the {self.other}"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        offset = state.position_m(self.item)[:2] - state.position_m(self.other)[:2]
        radii = objects[self.item].radius_m + objects[self.other].radius_m
        gap_m = length(offset) - radii
        return Measure(
            # A little overlap of the circles is still beside: footprints need not be round.
            holds=-0.01 < gap_m < self.gap_m,
            values={f"{self.item}_to_{self.other}_gap_m": gap_m},
        )


@dataclass(frozen=True)
class OnTable:
    """The item touches the table."""

    item: str

    @property
    def label(self) -> str:
        return f"{self.item}_on_table"

    @property
    def words(self) -> str:
        return f"the {self.item} is on the table"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        return Measure(holds=state.touching(self.item, "table"))


@dataclass(frozen=True)
class Upright:
    """The item's z axis points up, or down where `upside_down`, within `max_tilt_deg`."""

    item: str
    max_tilt_deg: float = 10.0
    upside_down: bool = False

    @property
    def label(self) -> str:
        return f"{self.item}_{'upside_down' if self.upside_down else 'upright'}"

    @property
    def words(self) -> str:
        how = "upside down" if self.upside_down else "upright"
        return f"the {self.item} is {how} within {self.max_tilt_deg:g} degrees"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        cosine = float(state.poses[self.item][2, 2]) * (-1.0 if self.upside_down else 1.0)
        tilt_deg = float(np.rad2deg(np.arccos(np.clip(cosine, -1.0, 1.0))))
        return Measure(
            holds=tilt_deg < self.max_tilt_deg, values={f"{self.item}_tilt_deg": tilt_deg}
        )


@dataclass(frozen=True)
class AtRest:
    """The item is as good as still."""

    item: str
    speed_m_s: float = 0.05
    angular_speed_rad_s: float = 0.8

    @property
    def label(self) -> str:
        return f"{self.item}_at_rest"

    @property
    def words(self) -> str:
        return f"the {self.item} is at rest"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        return Measure(
            holds=state.speed_m_s(self.item) < self.speed_m_s
            and state.angular_speed_rad_s(self.item) < self.angular_speed_rad_s
        )


@dataclass(frozen=True)
class Released:
    """No part of an arm touches the item."""

    item: str

    @property
    def label(self) -> str:
        return f"{self.item}_released"

    @property
    def words(self) -> str:
        return f"nothing holds or touches the {self.item}"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        touched = any(name == self.item for _, name in state.arm_contacts)
        return Measure(holds=not touched and not state.fingers_touch(self.item))


@dataclass(frozen=True)
class Grasped:
    """A finger touches the item, of the named side's hand where one is named."""

    item: str
    side: str | None = None

    @property
    def label(self) -> str:
        return f"{self.item}_touched" + (f"_by_{self.side}" if self.side else "")

    @property
    def words(self) -> str:
        return f"a finger touches the {self.item}"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        return Measure(holds=state.fingers_touch(self.item, side=self.side))


@dataclass(frozen=True)
class Lifted:
    """The item's origin is `height_m` above where it would be at rest on the table."""

    item: str
    height_m: float = 0.03

    @property
    def label(self) -> str:
        return f"{self.item}_lifted"

    @property
    def words(self) -> str:
        return f"the {self.item} is {_cm(self.height_m)} above the table"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        height_m = float(state.position_m(self.item)[2]) - objects[self.item].rest_height_m
        return Measure(holds=height_m > self.height_m)


@dataclass(frozen=True)
class Dropped:
    """The item has fallen: it was faster downward than a hand puts anything down.

    1.0 m/s is a free fall from 5 cm.
    """

    item: str
    speed_m_s: float = 1.0

    @property
    def label(self) -> str:
        return f"{self.item}_dropped"

    @property
    def words(self) -> str:
        return f"the {self.item} was dropped"

    def measure(self, state: SceneState, objects: Objects) -> Measure:
        return Measure(holds=state.fastest_fall_m_s.get(self.item, 0.0) > self.speed_m_s)


def _cm(length_m: float) -> str:
    return f"{100 * length_m:g} cm"
