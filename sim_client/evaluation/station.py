"""Where an episode takes place, as the runner knows it, and what makes one such place another."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from policy_interface.contract import Contract, ImageSize
from policy_interface.types import Action, Observation


@dataclass(frozen=True, kw_only=True)
class StationOptions:
    """A station, by what makes it another one.

    cameras: exactly those that it renders. shift: the levels of its distribution shift, such as
    "lighting=high,camera=medium"; empty for none. latency_ms: how long the world goes on, in
    simulated time, until an action takes effect.
    """

    task_name: str
    cameras: Mapping[str, ImageSize]
    shift: str = ""
    latency_ms: float = 0.0


class Status(Protocol):
    """How a task stands; see sim_client.tasks.task.TaskStatus."""

    @property
    def success(self) -> bool: ...

    @property
    def failed(self) -> bool: ...

    @property
    def progress(self) -> float: ...

    @property
    def predicates(self) -> Mapping[str, bool | float]: ...


class Station(Protocol):
    """Where an episode takes place; see sim_client.station.station.Station."""

    @property
    def contract(self) -> Contract: ...

    @property
    def time_s(self) -> float: ...

    @property
    def instruction(self) -> str: ...

    @property
    def gl_renderer(self) -> str:
        """What draws the cameras, in the words of its driver; empty where nothing is drawn."""
        ...

    def reset(self, seed: int) -> None: ...

    def observe(self) -> Observation: ...

    def step(self, action: Action) -> Status: ...

    def status(self) -> Status: ...

    def state_digest(self) -> str:
        """SHA-256 (hex) of the whole simulated state."""
        ...

    def state(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
        """Positions and velocities of everything that moves, in the simulator's order."""
        ...


StationFactory = Callable[[StationOptions], Station]

OUR_STATION = "sim_client.evaluation.station:build_station"
"""As another process imports it."""


def imported_factory(import_string: str) -> StationFactory:
    """The factory that an import string `module:callable` names."""
    module_name, _, name = import_string.partition(":")
    return cast(StationFactory, getattr(importlib.import_module(module_name), name))


def build_station(options: StationOptions) -> Station:
    """The project's own two-arm station. Raises ContractError for what it does not have."""
    from sim_client.station.shift import Shift
    from sim_client.station.station import Station as DrakeStation
    from sim_client.tasks.catalog import get_task

    return DrakeStation(
        get_task(options.task_name),
        cameras=options.cameras,
        shift=Shift.parse(options.shift),
        latency_s=options.latency_ms / 1e3,
    )
