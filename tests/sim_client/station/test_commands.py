"""Latency in simulated time, and joint angles as actions."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policy_interface.contract import (
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    ContractError,
)
from policy_interface.types import Action, InvalidValueError, Pose
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import tool_down
from sim_client.station.shift import Shift
from sim_client.station.station import JointAction, Station
from sim_client.tasks.catalog import get_task

StationOf = Callable[..., Station]
WIDTHS = {RIGHT_GRIPPER: 0.08, LEFT_GRIPPER: 0.08}


def delayed(latency_s: float, shift: Shift | None = None) -> Station:
    return Station(get_task("PickAndPlaceBox"), cameras={}, latency_s=latency_s, shift=shift)


def holding(station: Station) -> Action:
    desired = station.desired()
    return Action(poses=desired.poses, gripper_widths_m=desired.gripper_widths_m)


def moves(station: Station, num: int) -> list[Action]:
    """Right-hand motions, each another pose and width."""
    left = station.desired().poses[LEFT_ARM]
    rng = np.random.default_rng(3)
    actions = []
    for _ in range(num):
        position_m = rng.uniform([-0.15, -0.35, 0.15], [0.0, -0.2, 0.3])
        right = Pose.from_matrix(tool_down(position_m, rng.uniform(-0.4, 0.4)))
        width_m = rng.uniform(0.02, 0.08)
        actions.append(
            Action(
                poses={RIGHT_ARM: right, LEFT_ARM: left},
                gripper_widths_m={RIGHT_GRIPPER: width_m, LEFT_GRIPPER: 0.08},
            )
        )
    return actions


def assert_alike(one: Station, other: Station) -> None:
    """Up to the rounding of a pose that is held and one that is commanded again."""
    for mine, others in zip(one.state(), other.state(), strict=True):
        np.testing.assert_allclose(mine, others, atol=1e-7)


@pytest.mark.parametrize("num_steps_late", [1, 2])
def test_actions_take_effect_so_many_steps_later(
    station_of: StationOf, num_steps_late: int
) -> None:
    """A latency of whole steps is the same motion, later: holding first, the last ones unseen."""
    prompt, late = station_of("PickAndPlaceBox"), delayed(0.1 * num_steps_late)
    for station in (prompt, late):
        station.reset(100)
    hold, actions = holding(prompt), moves(prompt, 6)
    for action in actions:
        late.step(action)
    for action in [hold] * num_steps_late + actions[:-num_steps_late]:
        prompt.step(action)
    assert_alike(late, prompt)


def test_a_part_of_a_step_late_is_between(station_of: StationOf) -> None:
    prompt, late = station_of("PickAndPlaceBox"), delayed(0.04)
    for station in (prompt, late):
        station.reset(100)
    target = moves(prompt, 1)[0]
    start = prompt.desired().poses[RIGHT_ARM].translation_m
    prompt.step(target)
    late.step(target)
    ways = [
        np.linalg.norm(station.actual().poses[RIGHT_ARM].translation_m - start)
        for station in (prompt, late)
    ]
    assert 0.0 < ways[1] < 0.8 * ways[0]


@pytest.mark.parametrize(("latency_s", "more_s"), [(0.01, 0.02), (0.04, 0.05), (0.05, 0.06)])
def test_more_latency_is_less_of_the_way(latency_s: float, more_s: float) -> None:
    """Between the servos' ticks too, 20 ms apart: half a control step is 50 ms."""
    ways = []
    for station in (delayed(latency_s), delayed(more_s)):
        station.reset(100)
        start = station.desired().poses[RIGHT_ARM].translation_m
        station.step(moves(station, 1)[0])
        ways.append(np.linalg.norm(station.actual().poses[RIGHT_ARM].translation_m - start))
    assert 0.0 < ways[1] < ways[0]


def test_an_action_in_effect_between_ticks_is_reached_as_fast(station_of: StationOf) -> None:
    prompt, late = station_of("PickAndPlaceBox"), delayed(0.05)
    for station in (prompt, late):
        station.reset(100)
    target = moves(prompt, 1)[0]
    for station in (prompt, late):
        for _ in range(12):
            station.step(target)
    positions = [s.actual().poses[RIGHT_ARM].translation_m for s in (prompt, late)]
    np.testing.assert_allclose(positions[0], positions[1], atol=1e-3)


def test_the_action_delay_of_a_shift_adds_to_the_latency(station_of: StationOf) -> None:
    prompt, late = station_of("PickAndPlaceBox"), delayed(0.1, Shift(action_delay="low"))
    for station in (prompt, late):
        station.reset(100)
    hold, actions = holding(prompt), moves(prompt, 5)
    for action in actions:
        late.step(action)
    for action in [hold, hold, *actions[:-2]]:
        prompt.step(action)
    assert_alike(late, prompt)


def test_nothing_is_on_its_way_into_the_next_episode() -> None:
    late = delayed(0.2)
    late.reset(100)
    hold = holding(late)
    late.step(hold)
    digest = late.state_digest()
    late.reset(7)
    for action in moves(late, 3):
        late.step(action)
    late.reset(100)
    late.step(hold)
    assert late.state_digest() == digest


@pytest.mark.parametrize(
    ("latency_s", "message"),
    [(0.035, "multiple of 0.01 s"), (-0.1, "0 to 5 s"), (float("nan"), "0 to 5 s"), (9.0, "to 5")],
)
def test_a_latency_of_no_whole_time_steps_is_refused(latency_s: float, message: str) -> None:
    with pytest.raises(ContractError, match=message):
        delayed(latency_s)


def joint_action(station: Station, right: np.ndarray, width_m: float = 0.08) -> JointAction:
    left = station.desired().joint_positions_rad[LEFT_ARM]
    return JointAction(
        joint_positions_rad={RIGHT_ARM: right, LEFT_ARM: left},
        gripper_widths_m={RIGHT_GRIPPER: width_m, LEFT_GRIPPER: 0.08},
    )


def test_joint_angles_are_reached(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    q = station.desired().joint_positions_rad[RIGHT_ARM] + [0.2, -0.2, 0.1, 0.2, 0.3, -0.2, 0.5]
    for _ in range(8):
        station.step(joint_action(station, q, width_m=0.03))
    actual, desired = station.actual(), station.desired()
    np.testing.assert_allclose(actual.joint_positions_rad[RIGHT_ARM], q, atol=5e-3)
    assert actual.gripper_widths_m[RIGHT_GRIPPER] == pytest.approx(0.03, abs=2e-3)
    X_TE = desired.poses[RIGHT_ARM].matrix()
    np.testing.assert_allclose(X_TE, actual.poses[RIGHT_ARM].matrix(), atol=5e-3)


def test_wild_joint_angles_stay_within_limits_and_speeds(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    before = station.desired().joint_positions_rad[RIGHT_ARM]
    for _ in range(30):
        station.step(joint_action(station, np.full(7, 50.0)))
        after = station.desired().joint_positions_rad[RIGHT_ARM]
        assert (np.abs(after - before) <= panda.VELOCITY_RAD_S * 0.1).all()
        before = after
    assert (before <= panda.UPPER_RAD).all()
    np.testing.assert_allclose(before, panda.UPPER_RAD, atol=0.05)


def test_poses_go_on_from_where_joint_angles_led(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    q = station.desired().joint_positions_rad[RIGHT_ARM] + [0.2, 0, 0, 0, 0, 0, 0]
    for _ in range(5):
        station.step(joint_action(station, q))
    before = station.actual().poses[RIGHT_ARM].matrix()
    for _ in range(3):
        station.step(holding(station))
    np.testing.assert_allclose(station.actual().poses[RIGHT_ARM].matrix(), before, atol=3e-3)


def test_joint_angles_that_are_none_are_refused(station_of: StationOf) -> None:
    with pytest.raises(InvalidValueError, match="7 finite numbers"):
        JointAction(joint_positions_rad={RIGHT_ARM: np.zeros(6)}, gripper_widths_m=WIDTHS)
    with pytest.raises(InvalidValueError, match="finite"):
        JointAction(joint_positions_rad={RIGHT_ARM: np.full(7, np.nan)}, gripper_widths_m=WIDTHS)
    with pytest.raises(InvalidValueError, match="finite"):
        JointAction(joint_positions_rad={}, gripper_widths_m={RIGHT_GRIPPER: np.inf})
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    with pytest.raises(ContractError, match="'left::panda' missing in the joint action"):
        station.step(
            JointAction(joint_positions_rad={RIGHT_ARM: np.zeros(7)}, gripper_widths_m=WIDTHS)
        )


def test_the_hand_does_not_pass_through_its_own_shoulder(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    # Within the joints' limits, and yet the hand would be 16 cm deep in the arm's own first links.
    folded = np.array([0.0, 1.1, 0.0, -2.97, 0.0, 0.63, 0.785])
    for _ in range(30):
        station.step(joint_action(station, folded))
    commanded = station.desired().joint_positions_rad[RIGHT_ARM]
    np.testing.assert_allclose(commanded, folded, atol=1e-6)
    off_rad = np.abs(station.actual().joint_positions_rad[RIGHT_ARM] - commanded)
    assert off_rad.max() > 0.05
