"""What a task is: objects, a sampler of layouts, and predicates that say how far it has come."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from sim_client.tasks.manipulands import Manipuland

Array = NDArray[np.float64]
Layout = Mapping[str, Array]
"""Where each object starts: X_TO (4, 4) by the object's name."""

MAX_LAYOUT_ATTEMPTS = 500


@dataclass(frozen=True, kw_only=True)
class TaskStatus:
    """How a task stands at one instant.

    success: done. failed: it can no longer be done. predicates: each condition of success, and
    the distances behind them, by name; what partial credit is made of.
    """

    success: bool
    failed: bool
    predicates: Mapping[str, bool | float]

    def __post_init__(self) -> None:
        object.__setattr__(self, "predicates", MappingProxyType(dict(self.predicates)))


@dataclass(frozen=True, kw_only=True, eq=False)
class SceneState:
    """What is true of the objects at one instant.

    poses: X_TO (4, 4) by object. velocities: (6,) by object in T, angular (rad/s), linear (m/s).
    finger_contacts: the objects that a finger touches. contacts: pairs of objects (or "table")
    that touch, in alphabetical order.
    """

    poses: Mapping[str, Array]
    velocities: Mapping[str, Array]
    finger_contacts: frozenset[str]
    contacts: frozenset[tuple[str, str]]

    def speed_m_s(self, name: str) -> float:
        return float(np.linalg.norm(self.velocities[name][3:]))

    def angular_speed_rad_s(self, name: str) -> float:
        return float(np.linalg.norm(self.velocities[name][:3]))

    def touching(self, first: str, second: str) -> bool:
        return (min(first, second), max(first, second)) in self.contacts


class Task(Protocol):
    """One task of the station; its layouts come from `sample_layout` alone.

    name: CamelCase, as in LBM Eval. instruction: the sentence that a policy reads.
    time_limit_s: an episode without success by then is a timeout.
    """

    @property
    def name(self) -> str: ...

    @property
    def instruction(self) -> str: ...

    @property
    def time_limit_s(self) -> float: ...

    @property
    def objects(self) -> tuple[Manipuland, ...]: ...

    def sample_layout(self, rng: np.random.Generator) -> Layout: ...

    def status(self, state: SceneState) -> TaskStatus: ...


def planar_pose(x_m: float, y_m: float, z_m: float, yaw_rad: float) -> Array:
    """X_TO (4, 4) of an upright object."""
    c, s = np.cos(yaw_rad), np.sin(yaw_rad)
    return np.array(
        [[c, -s, 0.0, x_m], [s, c, 0.0, y_m], [0.0, 0.0, 1.0, z_m], [0.0, 0.0, 0.0, 1.0]]
    )


def sample_until_valid(
    propose: Callable[[], Layout], is_valid: Callable[[Layout], bool], *, task: str
) -> Layout:
    """Rejection sampling. Raises RuntimeError where the task's own bounds leave no room."""
    for _ in range(MAX_LAYOUT_ATTEMPTS):
        layout = propose()
        if is_valid(layout):
            return layout
    raise RuntimeError(
        f"{task}: no valid layout in {MAX_LAYOUT_ATTEMPTS} draws; its bounds leave too little room"
    )


def fell_off_table(X_TO: Array) -> bool:
    """Whether an object has left the table's top for good."""
    return bool(X_TO[2, 3] < -0.05)
