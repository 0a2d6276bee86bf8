"""What is true in the simulation is read from the simulation, in every episode anew."""

from __future__ import annotations

import numpy as np
import pytest
from pydrake.math import RigidTransform

from policy_interface.types import Action
from sim_client.drake_arrays import drake_array
from sim_client.station.station import SimulationError, Station
from sim_client.tasks.catalog import get_task


def hold(station: Station) -> None:
    desired = station.desired()
    station.step(Action(poses=desired.poses, gripper_widths_m=desired.gripper_widths_m))


def test_a_fall_is_seen_however_short() -> None:
    station = Station(get_task("PickAndPlaceBox"), cameras={})
    world = station.world
    for seed in (100, 101):
        station.reset(seed)
        hold(station)
        assert station.scene_state().fastest_fall_m_s["box"] < 0.05
        X_TB = np.array(station.scene_state().poses["box"])
        height_m = 0.04
        X_TB[2, 3] += height_m
        pose, box = RigidTransform(drake_array(X_TB)), world.scene.bodies["box"]
        world.scene.plant.SetFreeBodyPose(world.plant_context, box, pose)
        hold(station)
        # 4 cm last 0.09 s, so that it lies still again when the control step ends.
        assert abs(station.scene_state().velocities["box"][5]) < 0.3
        fastest = station.scene_state().fastest_fall_m_s["box"]
        assert fastest == pytest.approx(np.sqrt(2 * 9.81 * height_m), rel=0.35)


def test_what_is_not_finite_is_an_error_and_ends_with_the_episode() -> None:
    station = Station(get_task("PickAndPlaceBox"), cameras={})
    world = station.world
    for seed in (100, 101):
        station.reset(seed)
        world.require_finite()
        num_numbers = world.scene.plant.num_multibody_states()
        world.plant_context.SetDiscreteState(drake_array(np.full(num_numbers, np.nan)))
        with pytest.raises(SimulationError, match="not finite"):
            world.require_finite()
