"""Policies for bring-up and benchmarks, and the replay of a recorded episode."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from policy_interface.client import PolicyClient
from policy_interface.demonstration import load_demonstration
from policy_interface.types import Action
from policy_server import scripted_policies
from policy_server.policy import require_policy
from policy_server.scripted_policies import NullPolicy, ReplayPolicy, SleepPolicy
from policy_server.targets import TargetOptions, resolve
from policy_server.testing import running_server


def _noise(count: int) -> list[np.random.Generator]:
    return [np.random.default_rng(0)] * count


def _numbers(actions: list[Action]) -> np.ndarray:
    return np.array(
        [
            [n for _, pose in sorted(action.poses.items()) for n in pose.matrix().ravel()]
            + [width for _, width in sorted(action.gripper_widths_m.items())]
            for action in actions
        ]
    )


@pytest.mark.parametrize("target", ["hold", "wave", "null", "null:8", "sleep:0:3"])
def test_each_is_a_policy(target, make_observation) -> None:
    policy = resolve(target, TargetOptions())()
    require_policy(policy)
    histories = [[make_observation(0)], [make_observation(1)]]
    chunks = policy.plan(histories, _noise(2))
    assert [len(chunk) for chunk in chunks] == [policy.chunk_length] * 2


@pytest.mark.parametrize("policy", [NullPolicy(chunk_length=3), SleepPolicy(sleep_ms=0)])
def test_the_last_command_is_repeated(policy, make_observation) -> None:
    observations = [make_observation(0), make_observation(1)]
    chunks = policy.plan([[each] for each in observations], _noise(2))
    for observation, chunk in zip(observations, chunks, strict=True):
        commanded = Action(
            poses=observation.desired.poses,
            gripper_widths_m=observation.desired.gripper_widths_m,
        )
        np.testing.assert_array_equal(_numbers(chunk), _numbers([commanded] * policy.chunk_length))


@pytest.mark.parametrize("batch_size", [1, 16])
def test_a_batch_sleeps_once(monkeypatch, make_observation, batch_size) -> None:
    slept_s: list[float] = []
    monkeypatch.setattr(scripted_policies.time, "sleep", slept_s.append)
    policy = SleepPolicy(sleep_ms=20)
    policy.plan([[make_observation(0)]] * batch_size, _noise(batch_size))
    assert slept_s == [0.02]


def test_a_recording_is_played_by_the_observations_time(recording: Path, make_observation) -> None:
    demonstration = load_demonstration(recording)
    policy = ReplayPolicy.of(recording)
    require_policy(policy)
    num_steps = demonstration.num_steps
    assert policy.chunk_length == policy.open_loop_steps == num_steps
    whole = policy.plan([[make_observation(0, time_s=None)]], _noise(1))[0]
    for arm, poses in demonstration.action.poses.items():
        np.testing.assert_array_equal([each.poses[arm].matrix() for each in whole], poses)
    for name, widths in demonstration.action.gripper_widths_m.items():
        np.testing.assert_array_equal([each.gripper_widths_m[name] for each in whole], widths)
    period_s = 1 / demonstration.contract.control_rate_hz
    for time_s, start in ((0, 0), (3 * period_s, 3), (3.4 * period_s, 3), (-5, 0)):
        (chunk,) = policy.plan([[make_observation(0, time_s=time_s)]], _noise(1))
        assert chunk == whole[start:] + [whole[-1]] * start
    for time_s in ((num_steps - 1) * period_s, 1e9):
        (chunk,) = policy.plan([[make_observation(0, time_s=time_s)]], _noise(1))
        assert chunk == [whole[-1]] * num_steps


def test_a_replay_needs_the_recordings_station_but_no_camera(recording: Path) -> None:
    recorded = load_demonstration(recording).contract
    contract = ReplayPolicy.of(recording).contract
    assert recorded.cameras
    assert not contract.cameras
    assert contract.arms == recorded.arms
    assert contract.control_rate_hz == recorded.control_rate_hz


def test_a_served_replay_plays_to_its_end_and_stays(recording: Path, make_observation) -> None:
    demonstration = load_demonstration(recording)
    period_s = 1 / demonstration.contract.control_rate_hz
    policy = resolve(f"replay:{recording}", TargetOptions())()
    num_steps = demonstration.num_steps
    with running_server(policy) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        got = [
            client.step(make_observation(step, time_s=step * period_s))
            for step in range(num_steps + 5)
        ]
    for arm, poses in demonstration.action.poses.items():
        expected = np.concatenate([poses, np.repeat(poses[-1:], 5, axis=0)])
        np.testing.assert_allclose(
            [action.poses[arm].matrix() for action in got], expected, atol=1e-12
        )
