"""The station: what it observes and how it moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from policy_interface.contract import (
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    Contract,
    ContractError,
    violations,
)
from policy_interface.types import Action, InvalidValueError, Pose
from sim_client.station import panda_kinematics as panda
from sim_client.station.arm_controller import tool_down
from sim_client.station.inverse_kinematics import rotation_from_vector
from sim_client.station.station import Station

StationOf = Callable[..., Station]
CAMERAS = ("scene_right_0", "wrist_right_minus")


def holding(station: Station) -> Action:
    desired = station.desired()
    return Action(poses=desired.poses, gripper_widths_m=desired.gripper_widths_m)


def right_arm_to(station: Station, X_TE: np.ndarray, *, width_m: float = 0.08) -> Action:
    held = holding(station)
    return Action(
        poses={**held.poses, RIGHT_ARM: Pose.from_matrix(X_TE)},
        gripper_widths_m={**held.gripper_widths_m, RIGHT_GRIPPER: width_m},
    )


def test_another_seed_is_another_scene(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    scenes = []
    for seed in (1, 2):
        station.reset(seed)
        scenes.append((station.scene_state().poses, station.actual().poses[RIGHT_ARM]))
    assert not np.allclose(scenes[0][0]["box"], scenes[1][0]["box"])
    assert not np.allclose(scenes[0][0]["bin"], scenes[1][0]["bin"])
    assert not np.allclose(scenes[0][1].translation_m, scenes[1][1].translation_m)


@pytest.mark.parametrize("task", ["PickAndPlaceBox", "PutMugOnSaucer"])
def test_nothing_moves_by_itself(station_of: StationOf, task: str) -> None:
    station = station_of(task)
    for seed in range(100, 104):
        station.reset(seed)
        assert station.time_s == 0.0
        assert not station.status().success
        before = station.scene_state()
        for _ in range(10):
            station.step(holding(station))
        after = station.scene_state()
        assert station.time_s == pytest.approx(1.0)
        for name, X_TO in before.poses.items():
            np.testing.assert_allclose(after.poses[name], X_TO, atol=1e-3)
            assert after.speed_m_s(name) < 1e-3


def test_the_observation_keeps_its_contract(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox", *CAMERAS)
    station.reset(100)
    observation = station.observe()
    assert violations(station.contract, observation) == []
    assert set(observation.cameras) == set(CAMERAS)
    assert observation.language_instruction == station.instruction
    assert station.instruction in station.task.instructions
    for state in (observation.actual, observation.desired):
        assert set(state.poses) == {RIGHT_ARM, LEFT_ARM}
        assert set(state.gripper_widths_m) == {RIGHT_GRIPPER, LEFT_GRIPPER}
    assert isinstance(station.contract, Contract)
    assert Contract.from_json(station.contract.to_json()) == station.contract


@pytest.mark.parametrize(
    ("task", "name", "is_coloured"),
    [
        ("PickAndPlaceBox", "box", lambda r, g, b: (r > 90) & (g < 0.5 * r) & (b < 0.5 * r)),
        ("PickAndPlaceBox", "bin", lambda r, g, b: (b > 60) & (r < 0.5 * b)),
        ("PutMugOnSaucer", "mug", lambda r, g, b: (r > 90) & (b < 0.4 * r) & (g > 0.4 * r)),
        ("PutMugOnSaucer", "saucer", lambda r, g, b: (g > 50) & (r < 0.5 * g)),
    ],
)
def test_objects_are_seen_where_the_camera_says(
    station_of: StationOf, task: str, name: str, is_coloured: Callable[..., np.ndarray]
) -> None:
    """Projecting an object through the reported pose and intrinsics hits its colour."""
    station = station_of(task, "scene_right_0", "scene_left_0")
    num_seen = 0
    for seed in range(100, 106):
        station.reset(seed)
        observation = station.observe()
        p_TO = station.scene_state().poses[name][:3, 3] + [0.0, 0.0, 0.01]
        for view in observation.cameras.values():
            p_CO = view.X_TC.inverse().matrix() @ [*p_TO, 1.0]
            assert p_CO[2] > 0.3, "the object is in front of the camera"
            u, v = (view.intrinsics @ p_CO[:3] / p_CO[2])[:2].round().astype(int)
            if not (2 <= u < 62 and 2 <= v < 62):
                continue
            r, g, b = np.moveaxis(view.rgb[v - 2 : v + 3, u - 2 : u + 3].astype(float), -1, 0)
            num_seen += bool(is_coloured(r, g, b).any())
    assert num_seen >= 6, "each object is seen at its place by the camera on its side, at least"


def test_the_wrist_camera_moves_with_the_hand(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox", *CAMERAS)
    station.reset(100)
    before = station.observe()
    X_TE = before.actual.poses[RIGHT_ARM].matrix()
    X_TE[:3, 3] += [0.05, 0.0, -0.03]
    for _ in range(6):
        station.step(right_arm_to(station, X_TE))
    after = station.observe()
    for name, moved in (("wrist_right_minus", True), ("scene_right_0", False)):
        change = after.cameras[name].X_TC.translation_m - before.cameras[name].X_TC.translation_m
        expected = [0.05, 0.0, -0.03] if moved else [0.0, 0.0, 0.0]
        np.testing.assert_allclose(change, expected, atol=2e-3)
        assert not np.array_equal(after.cameras[name].rgb, before.cameras[name].rgb)


def test_a_pose_with_another_orientation_is_reached(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    X_TE = tool_down(np.array([-0.10, -0.25, 0.30]), 0.6)
    X_TE[:3, :3] = rotation_from_vector(np.array([0.3, -0.4, 0.0])) @ X_TE[:3, :3]
    for _ in range(15):
        station.step(right_arm_to(station, X_TE, width_m=0.03))
    actual = station.actual()
    np.testing.assert_allclose(actual.poses[RIGHT_ARM].matrix(), X_TE, atol=3e-3)
    np.testing.assert_allclose(station.desired().poses[RIGHT_ARM].matrix(), X_TE, atol=1e-9)
    assert actual.gripper_widths_m[RIGHT_GRIPPER] == pytest.approx(0.03, abs=2e-3)


def test_a_wild_command_stays_within_workspace_and_speed(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    X_TE = tool_down(np.array([5.0, 5.0, 5.0]), 3.0)
    greatest = panda.VELOCITY_RAD_S * 1.1
    for _ in range(15):
        before = station.actual()
        station.step(right_arm_to(station, X_TE, width_m=-3.0))
        after = station.actual()
        step = after.joint_positions_rad[RIGHT_ARM] - before.joint_positions_rad[RIGHT_ARM]
        assert (np.abs(step) <= greatest * 0.1).all()
        change = after.gripper_widths_m[RIGHT_GRIPPER] - before.gripper_widths_m[RIGHT_GRIPPER]
        assert abs(change) <= 0.25 * 0.1 + 2e-3
        q = after.joint_positions_rad[RIGHT_ARM]
        assert (q >= panda.LOWER_RAD - 0.01).all()
        assert (q <= panda.UPPER_RAD + 0.01).all()
    assert (station.desired().poses[RIGHT_ARM].translation_m <= [0.30, 0.70, 0.90]).all()
    assert station.actual().gripper_widths_m[RIGHT_GRIPPER] == pytest.approx(0.0, abs=2e-3)


def test_the_arms_do_not_pass_through_each_other(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    meeting = Pose.from_matrix(tool_down(np.array([-0.15, 0.0, 0.30]), 0.0))
    widths = {RIGHT_GRIPPER: 0.08, LEFT_GRIPPER: 0.08}
    for _ in range(30):
        station.step(Action(poses={RIGHT_ARM: meeting, LEFT_ARM: meeting}, gripper_widths_m=widths))
    poses = station.actual().poses
    apart = poses[RIGHT_ARM].translation_m - poses[LEFT_ARM].translation_m
    assert np.linalg.norm(apart) > 0.08


def test_the_hand_does_not_pass_through_the_table(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    X_TE = tool_down(np.array([0.05, -0.42, -0.06]), 0.0)
    for _ in range(20):
        station.step(right_arm_to(station, X_TE))
    X_TC = station.actual().poses[RIGHT_ARM].matrix() @ panda.X_EC
    fingertip_m = X_TC[2, 3] - 0.009
    assert -0.012 < fingertip_m < 0.02


def test_an_arm_without_a_command_is_refused(station_of: StationOf) -> None:
    station = station_of("PickAndPlaceBox")
    station.reset(100)
    held = holding(station)
    one_armed = Action(
        poses={RIGHT_ARM: held.poses[RIGHT_ARM]}, gripper_widths_m=held.gripper_widths_m
    )
    with pytest.raises(ContractError, match="'left::panda' missing"):
        station.step(one_armed)
    assert station.time_s == 0.0


def test_a_pose_that_is_none_is_refused() -> None:
    with pytest.raises(InvalidValueError):
        Pose(rotation=np.eye(3) * np.nan, translation_m=np.zeros(3))
