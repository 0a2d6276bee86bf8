"""A checkpoint as a policy."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from policy_interface.contract import (
    CHECKPOINT_DIGEST_KEY,
    CONTRACT_KEY,
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    Contract,
    ContractError,
    ImageSize,
)
from policy_interface.types import Action, Observation
from trainer.checkpoint import CheckpointError, read_checkpoint
from trainer.inference import Policy
from trainer.policy_loading import load_policy


@pytest.fixture(scope="module")
def policy(trained_checkpoint: Path) -> Policy:
    return load_policy(trained_checkpoint)


def numbers(chunk: list[Action]) -> np.ndarray:
    return np.array(
        [
            [
                *action.poses[RIGHT_ARM].matrix().ravel(),
                *action.poses[LEFT_ARM].matrix().ravel(),
                action.gripper_widths_m[RIGHT_GRIPPER],
                action.gripper_widths_m[LEFT_GRIPPER],
            ]
            for action in chunk
        ]
    )


def test_it_says_what_it_needs_and_what_it_is(policy: Policy, trained_checkpoint: Path) -> None:
    stored = read_checkpoint(trained_checkpoint)
    assert policy.chunk_length == 8
    assert policy.open_loop_steps == 8
    assert policy.num_observations == 1
    assert policy.metadata.name == "tiny@6"
    assert policy.metadata.skill_type == "ReachTheSquare"
    assert policy.metadata.runtime_information[CHECKPOINT_DIGEST_KEY] == stored.digest
    handshake = Contract.from_json(policy.metadata.runtime_information[CONTRACT_KEY])
    assert handshake == policy.contract == stored.contract
    assert not handshake.uses_language


def test_a_plan_commands_every_arm_at_every_step(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    chunk = policy.plan([[make_observation(0)]], [0])[0]
    assert len(chunk) == policy.chunk_length
    for action in chunk:
        assert set(action.poses) == {RIGHT_ARM, LEFT_ARM}
        assert set(action.gripper_widths_m) == {RIGHT_GRIPPER, LEFT_GRIPPER}


def test_plans_are_absolute_and_start_near_the_hand(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    # Demonstrated chunks stay within 0.3 m of their anchors; hands here are up to 0.5 m apart.
    for seed in range(5):
        observation = make_observation(seed)
        chunk = policy.plan([[observation]], [seed])[0]
        start = observation.actual.poses[LEFT_ARM].translation_m
        # The left arm idled in every demonstration.
        for action in chunk:
            assert np.linalg.norm(action.poses[LEFT_ARM].translation_m - start) < 0.1


def test_a_request_does_not_depend_on_its_batch_mates(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    observations = [[make_observation(seed)] for seed in range(5)]
    together = policy.plan(observations, [10, 11, 12, 13, 14])
    for i, observation in enumerate(observations):
        alone = policy.plan([observation], [10 + i])[0]
        np.testing.assert_allclose(numbers(together[i]), numbers(alone), atol=1e-5)
    backwards = policy.plan(observations[::-1], [14, 13, 12, 11, 10])
    np.testing.assert_allclose(numbers(backwards[0]), numbers(together[4]), atol=1e-5)


def test_noise_is_the_requests_own(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    request = [make_observation(0)]
    same, again, other = policy.plan([request, request, request], [7, 7, 8])
    np.testing.assert_allclose(numbers(same), numbers(again), atol=1e-5)
    assert np.abs(numbers(same) - numbers(other)).max() > 1e-4
    generator = np.random.default_rng(7)
    first, second = (policy.plan([request], [generator])[0] for _ in range(2))
    np.testing.assert_allclose(numbers(first), numbers(same), atol=1e-5)
    assert np.abs(numbers(second) - numbers(first)).max() > 1e-4


def test_a_plan_looks_at_the_images(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    seen = make_observation(0)
    elsewhere = Observation(
        cameras=make_observation(1).cameras, actual=seen.actual, desired=seen.desired
    )
    one, other = policy.plan([[seen], [elsewhere]], [0, 0])
    assert np.abs(numbers(one) - numbers(other)).max() > 1e-6


def test_no_requests_are_no_plans(policy: Policy) -> None:
    assert policy.plan([], []) == []


def test_an_observation_that_breaks_the_contract_is_refused(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    good = [make_observation(0)]
    missing = [make_observation(0, cameras={"wrist": ImageSize(height=40, width=40)})]
    with pytest.raises(ContractError, match=r"request 1: camera 'scene.right' missing"):
        policy.plan([good, missing], [0, 0])
    small = {name: ImageSize(height=32, width=32) for name in policy.contract.cameras}
    with pytest.raises(ContractError, match="32x32.*requires 48x40"):
        policy.plan([[make_observation(0, cameras=small)]], [0])


def test_a_history_of_another_length_is_refused(
    policy: Policy, make_observation: Callable[..., Observation]
) -> None:
    with pytest.raises(ValueError, match="expected 1 observation"):
        policy.plan([[make_observation(0), make_observation(1)]], [0])
    with pytest.raises(ValueError, match="noise sources"):
        policy.plan([[make_observation(0)]], [])


def test_flow_steps_can_be_chosen(
    trained_checkpoint: Path, make_observation: Callable[..., Observation]
) -> None:
    assert load_policy(trained_checkpoint, num_flow_steps=3).num_flow_steps == 3
    with pytest.raises(ValueError, match="num_flow_steps"):
        load_policy(trained_checkpoint, num_flow_steps=0)


def test_what_is_no_checkpoint_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="no MANIFEST"):
        load_policy(tmp_path)
