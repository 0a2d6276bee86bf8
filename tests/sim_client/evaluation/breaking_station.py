"""Drake's station that breaks in the fourth control step, for workers to build."""

from __future__ import annotations

import numpy as np

from policy_interface.types import Action
from sim_client.evaluation.station import StationOptions
from sim_client.station.station import Station
from sim_client.tasks.catalog import get_task
from sim_client.tasks.monitor import TaskStatus


class _BreakingStation(Station):
    def step(self, action: Action) -> TaskStatus:  # type: ignore[override]
        if round(self.time_s / 0.1) == 3:
            self.spoil()
        return super().step(action)

    def spoil(self) -> None:
        raise NotImplementedError


class NanStation(_BreakingStation):
    """A NaN in the state, as a solver leaves it that has diverged."""

    def spoil(self) -> None:
        context = self.world.plant_context
        state = context.get_mutable_discrete_state_vector()
        state.SetFromVector(np.full(state.size(), np.nan))


class AssertingStation(_BreakingStation):
    """One of Drake's own assertions fails, which its bindings raise as SystemExit."""

    def spoil(self) -> None:
        plant = self.world.scene.plant
        plant.SetVelocities(self.world.plant_context, np.full(plant.num_velocities(), np.nan))


def build_nan(options: StationOptions) -> NanStation:
    return NanStation(get_task(options.task_name), cameras=options.cameras)


def build_asserting(options: StationOptions) -> AssertingStation:
    return AssertingStation(get_task(options.task_name), cameras=options.cameras)
