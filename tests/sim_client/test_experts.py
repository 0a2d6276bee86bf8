"""The scripted experts: they succeed, smoothly, under noise, and recover."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policy_interface.types import Action
from sim_client.experts.catalog import make_expert
from sim_client.experts.expert import CommandNoise, Expert, NoiseInjector, perturbed
from sim_client.experts.one_arm import Phase
from sim_client.experts.pick_and_place import PickAndPlaceExpert
from sim_client.station.station import GRIPPER_NAMES, Station
from sim_client.tasks.catalog import TASKS
from sim_client.tasks.random_streams import stream

StationOf = Callable[..., Station]


def intended(station: Station, expert: Expert) -> Action:
    return expert.act(station.scene_state(), station.actual(), station.desired())


def attempt(station: Station, expert: Expert, seed: int) -> float:
    """Run one episode under noise; the longest way (m) that one control step asked a hand to go."""
    station.reset(seed)
    expert.reset()
    injectors = {
        arm: NoiseInjector(CommandNoise(), stream(seed, f"noise.{arm}"))
        for arm in station.contract.arms
    }
    longest_m = 0.0
    while not (expert.finished and station.status().success):
        if station.time_s >= station.task.time_limit_s or station.status().failed:
            break
        action = intended(station, expert)
        here = station.actual().poses
        for arm in expert.arms:
            way = action.poses[arm].translation_m - here[arm].translation_m
            longest_m = max(longest_m, float(np.linalg.norm(way)))
        station.step(perturbed(action, injectors, expert.arms))
    return longest_m


@pytest.mark.parametrize(
    "task", ["PickAndPlaceBox", pytest.param("PutMugOnSaucer", marks=pytest.mark.slow)]
)
def test_succeeds_smoothly_under_noise(station_of: StationOf, task: str) -> None:
    station = station_of(task)
    expert = make_expert(station.task)
    for seed in (500, 501):
        assert attempt(station, expert, seed) < 0.045
        assert station.status().success, f"seed {seed}: {station.status()}"


@pytest.mark.slow
@pytest.mark.parametrize("task", sorted(TASKS))
def test_succeeds_nearly_always(station_of: StationOf, task: str) -> None:
    """At least 95 % is the goal: of 10 an expert that meets it loses three or more once in 87."""
    station = station_of(task)
    expert = make_expert(station.task)
    lost = []
    for seed in range(300, 310):
        attempt(station, expert, seed)
        if not station.status().success:
            lost.append(seed)
    assert len(lost) <= 2, lost


def test_grasps_again_what_it_lost(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    expert = make_expert(station.task)
    assert isinstance(expert, PickAndPlaceExpert)
    station.reset(100)
    expert.reset()
    while station.scene_state().poses["box"][2, 3] < 0.035:
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
        assert [arm.partition("::")[0] for arm in expert.arms] == [side]
        arms |= set(expert.arms)
    assert len(arms) == 2


def test_noise_perturbs_the_arms_at_work_upward_and_never_a_gripper(
    station_of: StationOf,
) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    held = Action(
        poses=station.desired().poses, gripper_widths_m=station.desired().gripper_widths_m
    )
    noise = CommandNoise(burst_probability=1.0)
    injectors = {
        arm: NoiseInjector(noise, np.random.default_rng(i)) for i, arm in enumerate(held.poses)
    }
    for _ in range(50):
        executed = perturbed(held, injectors, ("right::panda",))
        moved = (
            executed.poses["right::panda"].translation_m - held.poses["right::panda"].translation_m
        )
        assert 0.0 < np.linalg.norm(moved) <= 0.02 + 1e-12
        assert moved[2] >= 0.0
        assert executed.poses["left::panda"] is held.poses["left::panda"]
        assert executed.gripper_widths_m == held.gripper_widths_m
    both = perturbed(held, injectors, tuple(held.poses))
    for arm, pose in held.poses.items():
        assert not np.array_equal(both.poses[arm].translation_m, pose.translation_m)


@pytest.mark.parametrize(
    "options",
    [{"burst_probability": 1.5}, {"position_m": 1.0}, {"min_burst_steps": 6}],
)
def test_noise_out_of_range_is_refused(options: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="expected"):
        CommandNoise(**options)  # pyright: ignore[reportArgumentType]
