"""The scripted experts: they succeed, smoothly, under noise, and recover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policy_interface.types import Action
from sim_client.experts.catalog import make_expert
from sim_client.experts.expert import CommandNoise, NoiseInjector
from sim_client.experts.pick_and_place import Phase, PickAndPlaceExpert
from sim_client.station.station import GRIPPER_NAMES, Station

StationOf = Callable[..., Station]


def intended(station: Station, expert: PickAndPlaceExpert) -> Action:
    return expert.act(station.scene_state(), station.actual(), station.desired())


@pytest.mark.parametrize("task", ["PickAndPlaceBox", "PutMugOnSaucer"])
def test_succeeds_smoothly_under_noise(station_of: StationOf, task: str) -> None:
    station = station_of(task)
    expert = make_expert(station.task)
    for seed in range(500, 502):
        station.reset(seed)
        expert.reset()
        injector = NoiseInjector(CommandNoise(), np.random.default_rng(seed))
        while not expert.finished:
            assert station.time_s < 9.0, f"seed {seed} is in {expert.phase}"
            action = intended(station, expert)
            here = station.actual().poses[expert.arm].translation_m
            assert np.linalg.norm(action.poses[expert.arm].translation_m - here) < 0.045
            station.step(injector.perturb(action, arm=expert.arm))
        assert station.status().success


@pytest.mark.slow
@pytest.mark.parametrize("task", ["PickAndPlaceBox", "PutMugOnSaucer"])
def test_succeeds_in_95_percent(station_of: StationOf, task: str) -> None:
    station = station_of(task)
    expert = make_expert(station.task)
    num_successes = 0
    for seed in range(100, 150):
        station.reset(seed)
        expert.reset()
        injector = NoiseInjector(CommandNoise(), np.random.default_rng(seed))
        while station.time_s < 8.0 and not station.status().success:
            action = intended(station, expert)
            station.step(injector.perturb(action, arm=expert.arm))
        num_successes += station.status().success
    assert num_successes >= 48


def test_grasps_again_what_it_lost(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    expert = make_expert(station.task)
    station.reset(100)
    expert.reset()
    while station.scene_state().poses["box"][2, 3] < 0.06:
        assert station.time_s < 8.0
        station.step(intended(station, expert))
    for _ in range(4):
        action = intended(station, expert)
        opened = action.gripper_widths_m | {GRIPPER_NAMES["right"]: 0.08}
        station.step(Action(poses=action.poses, gripper_widths_m=opened))
    intended(station, expert)
    assert expert.phase is Phase.APPROACH
    while not station.status().success:
        assert station.time_s < 14.0
        station.step(intended(station, expert))


def test_the_mug_is_taken_by_the_arm_on_its_side(station_of: StationOf) -> None:
    station = station_of("PutMugOnSaucer")
    expert = make_expert(station.task)
    arms = set()
    for seed in range(8):
        station.reset(seed)
        expert.reset()
        intended(station, expert)
        side = "right" if station.scene_state().poses["mug"][1, 3] < 0 else "left"
        assert expert.arm.startswith(side)
        arms.add(expert.arm)
    assert len(arms) == 2


def test_noise_perturbs_one_arm_upward_and_never_the_gripper(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    held = Action(
        poses=station.desired().poses, gripper_widths_m=station.desired().gripper_widths_m
    )
    injector = NoiseInjector(CommandNoise(burst_probability=1.0), np.random.default_rng(0))
    for _ in range(50):
        executed = injector.perturb(held, arm="right::panda")
        moved = (
            executed.poses["right::panda"].translation_m - held.poses["right::panda"].translation_m
        )
        assert 0.0 < np.linalg.norm(moved) <= 0.02 + 1e-12
        assert moved[2] >= 0.0
        assert executed.poses["left::panda"] is held.poses["left::panda"]
        assert executed.gripper_widths_m == held.gripper_widths_m


@pytest.mark.parametrize(
    "options",
    [{"burst_probability": 1.5}, {"position_m": 1.0}, {"min_burst_steps": 6}],
)
def test_noise_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CommandNoise(**options)  # pyright: ignore[reportArgumentType]
