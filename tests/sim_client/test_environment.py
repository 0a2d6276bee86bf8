"""The gymnasium environment."""

from __future__ import annotations

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from policy_interface.contract import ImageSize
from policy_interface.types import InvalidValueError
from sim_client.action_vector import ACTION_SIZE, action_from_vector, action_to_vector
from sim_client.environment import StationEnvironment, register_environments
from sim_client.experts.catalog import make_expert
from sim_client.station.arm_controller import tool_down
from sim_client.station.shift import Shift
from sim_client.tasks.catalog import TASKS


@pytest.fixture(scope="module")
def environment() -> StationEnvironment:
    register_environments()
    size = ImageSize(height=48, width=64)
    made = gymnasium.make(
        "sim_client/PickAndPlaceBox-v0", cameras={"scene_right_0": size}, render_mode="rgb_array"
    )
    assert isinstance(made.unwrapped, StationEnvironment)
    return made.unwrapped


@pytest.mark.filterwarnings("ignore:.*WARN:UserWarning")
def test_keeps_gymnasiums_rules_with_cameras(environment: StationEnvironment) -> None:
    check_env(environment)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.*WARN:UserWarning")
@pytest.mark.parametrize("task", list(TASKS))
def test_every_task_keeps_gymnasiums_rules(task: str) -> None:
    register_environments()
    made = gymnasium.make(f"sim_client/{task}-v0", cameras={})
    check_env(made.unwrapped, skip_render_check=True)


@pytest.mark.filterwarnings("ignore:.*WARN:UserWarning")
def test_keeps_gymnasiums_rules_with_joint_positions() -> None:
    check_env(
        StationEnvironment(task="PutMugOnSaucer", cameras={}, action_space="joint_positions"),
        skip_render_check=True,
    )


def test_joint_positions_are_followed() -> None:
    environment = StationEnvironment(
        task="PickAndPlaceBox", cameras={}, action_space="joint_positions"
    )
    observation, _ = environment.reset(seed=100)
    action = np.concatenate([observation["joint_positions"], [0.05, 0.08]])
    action[:7] += 0.1
    assert environment.action_space.contains(action)
    for _ in range(6):
        observation, *_ = environment.step(action)
    np.testing.assert_allclose(observation["joint_positions"], action[:14], atol=0.01)
    assert observation["actual"][18] == pytest.approx(0.05, abs=2e-3)
    with pytest.raises(ValueError, match="16 numbers"):
        environment.step(np.zeros(ACTION_SIZE))
    with pytest.raises(InvalidValueError, match="finite"):
        environment.step(np.full(16, np.nan))


def test_the_stations_own_options_are_passed_on() -> None:
    environment = StationEnvironment(
        task="PickAndPlaceBox", cameras={}, shift=Shift(phrasing="high"), latency_s=0.1
    )
    _, info = environment.reset(seed=100)
    assert info["instruction"] in environment.station.task.held_out_instructions


def test_an_unknown_action_space_is_refused() -> None:
    with pytest.raises(ValueError, match="expected one of"):
        StationEnvironment(task="PickAndPlaceBox", cameras={}, action_space="torques")  # pyright: ignore[reportArgumentType]


def test_every_task_is_registered_once(environment: StationEnvironment) -> None:
    register_environments()
    for name in TASKS:
        assert f"sim_client/{name}-v0" in gymnasium.registry


def test_a_vector_is_an_action(environment: StationEnvironment) -> None:
    """Right before left, rotations by rows: the layout of LBM Eval's data sets."""
    observation, _ = environment.reset(seed=100)
    vector = observation["desired"]
    X_TE = environment.station.desired().poses["right::panda"].matrix()
    np.testing.assert_allclose(vector[:3], X_TE[:3, 3])
    np.testing.assert_allclose(vector[3:9], X_TE[:2, :3].ravel())
    assert vector[18] == pytest.approx(0.08)
    np.testing.assert_allclose(action_to_vector(action_from_vector(vector)), vector, atol=1e-12)


def test_a_degenerate_action_is_refused(environment: StationEnvironment) -> None:
    environment.reset(seed=100)
    with pytest.raises(InvalidValueError):
        environment.step(np.zeros(ACTION_SIZE))
    with pytest.raises(ValueError, match="20 numbers"):
        action_from_vector(np.zeros(7))


def test_the_experts_episode_ends_with_a_reward(environment: StationEnvironment) -> None:
    observation, info = environment.reset(seed=100)
    station = environment.station
    assert info["instruction"] in station.task.instructions
    assert info["scenario_seed"] == 100
    expert = make_expert(station.task)
    total, terminated = 0.0, False
    while not terminated:
        assert station.time_s < 9.0
        action = expert.act(station.scene_state(), station.actual(), station.desired())
        observation, reward, terminated, truncated, info = environment.step(
            action_to_vector(action)
        )
        assert not truncated
        total += float(reward)
    assert total == 1.0
    assert info["success"]
    assert info["predicates"]["box_in_bin"]
    image = environment.render()
    np.testing.assert_array_equal(image, observation["cameras"]["scene_right_0"])


def test_an_idle_episode_is_truncated(environment: StationEnvironment) -> None:
    observation, _ = environment.reset(seed=100)
    hold = observation["desired"]
    hold[:3] = tool_down(np.array([-0.2, -0.3, 0.3]), 0.0)[:3, 3]
    num_steps, truncated = 0, False
    while not truncated:
        num_steps += 1
        assert num_steps <= 150
        _, reward, terminated, truncated, _ = environment.step(hold)
        assert not terminated
        assert reward == 0.0
    assert num_steps == 150
