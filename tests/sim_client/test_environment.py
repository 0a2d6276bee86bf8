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
def test_keeps_gymnasiums_rules(environment: StationEnvironment) -> None:
    check_env(environment)


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
    _, info = environment.reset(seed=100)
    assert info["instruction"] == "Pick up the box and place it in the bin."
    assert info["scenario_seed"] == 100
    station = environment.station
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
