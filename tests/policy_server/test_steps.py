"""Episodes over real gRPC: when plans are made, what from, and with which noise."""

from __future__ import annotations

import json
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from policy_interface.client import PolicyClient, PolicyServerRefusedError
from policy_interface.client_options import RetryPolicy
from policy_interface.codec import decode_action
from policy_interface.types import Action, Observation
from policy_server.scripted_policies import WAVE_MAX_SPEED_M_S, HoldPolicy, WavePolicy
from policy_server.server import ServerOptions
from policy_server.testing import GatedPolicy, NoisePolicy, running_server


class RecordingPolicy(NoisePolicy):
    """Remembers, by each plan, the times of the observations that it was made from."""

    def __init__(self, **arguments: int) -> None:
        super().__init__(**arguments)  # type: ignore[arg-type]
        self.planned_from: list[list[float | None]] = []

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        self.planned_from += [[each.time_s for each in history] for history in histories]
        return super().plan(histories, noise)


def _numbers(action: Action) -> np.ndarray:
    return np.concatenate(
        [pose.matrix().ravel() for _, pose in sorted(action.poses.items())]
        + [np.array([width for _, width in sorted(action.gripper_widths_m.items())])]
    )


def _episode(client: PolicyClient, observations: Sequence[Observation], seed: int) -> np.ndarray:
    client.reset(seed=seed)
    return np.stack([_numbers(client.step(observation)) for observation in observations])


def _options(**arguments: int) -> ServerOptions:
    return ServerOptions(address="127.0.0.1:0", **arguments)  # type: ignore[arg-type]


@pytest.mark.parametrize("open_loop_steps", [1, 2, 3, 5, 8])
def test_plans_are_made_at_step_0_and_then_exactly_every_n_steps(
    make_observation, open_loop_steps
) -> None:
    policy = RecordingPolicy(chunk_length=8, open_loop_steps=open_loop_steps)
    with running_server(policy) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        for step in range(20):
            client.step(make_observation(step, time_s=float(step)))
    assert policy.planned_from == [[float(step)] for step in range(0, 20, open_loop_steps)]


def test_a_chunk_is_executed_from_its_first_action_in_order(make_observation) -> None:
    observation = make_observation()
    policy = NoisePolicy(chunk_length=5, open_loop_steps=3)
    # Each plan's noise is its own: a plan that is made again is the same plan.
    generators = [np.random.default_rng((7, plan)) for plan in range(3)]
    chunks = policy.plan([[observation]] * 3, generators)
    expected = [action for chunk in chunks for action in chunk[:3]]
    with running_server(policy) as server, PolicyClient(server.address) as client:
        got = _episode(client, [observation] * 9, seed=7)
    np.testing.assert_array_equal(got, [_numbers(action) for action in expected])


@pytest.mark.parametrize(
    ("num_observations", "open_loop_steps"), [(1, 3), (2, 3), (3, 3), (4, 3), (6, 2), (3, 1)]
)
def test_a_plan_looks_at_the_latest_observations_and_repeats_the_first(
    make_observation, num_observations, open_loop_steps
) -> None:
    policy = RecordingPolicy(
        chunk_length=3, open_loop_steps=open_loop_steps, num_observations=num_observations
    )
    with running_server(policy) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        for step in range(10):
            client.step(make_observation(step, time_s=float(step)))
    assert policy.planned_from == [
        [float(max(step - back, 0)) for back in reversed(range(num_observations))]
        for step in range(0, 10, open_loop_steps)
    ]


def test_the_server_option_overrides_the_policy_and_the_metadata_tells(make_observation) -> None:
    policy = RecordingPolicy(chunk_length=8)
    options = ServerOptions(address="127.0.0.1:0", open_loop_steps=3, name="mine")
    with running_server(policy, options) as server, PolicyClient(server.address) as client:
        metadata = client.metadata()
        client.reset(seed=0)
        for step in range(7):
            client.step(make_observation(step, time_s=float(step)))
        assert client.contract() == policy.contract
    assert policy.planned_from == [[0.0], [3.0], [6.0]]
    assert metadata.name == "mine"
    assert metadata.runtime_information["assay.open_loop_steps"] == "3"
    host = json.loads(metadata.runtime_information["assay.host"])
    assert host["numpy"] == np.__version__
    assert {"assay", "machine", "platform", "python"} <= host.keys()


def test_the_same_seed_and_observations_give_the_same_actions(make_observation) -> None:
    observations = [make_observation(step) for step in range(10)]
    policy = NoisePolicy(chunk_length=4)
    with running_server(policy) as server, PolicyClient(server.address) as client:
        first = _episode(client, observations, seed=3)
        again = _episode(client, observations, seed=3)
        other = _episode(client, observations, seed=4)
    np.testing.assert_array_equal(first, again)
    assert np.abs(first - other).max() > 1e-4


def test_other_clients_change_nothing(make_observation) -> None:
    observations = [make_observation(step) for step in range(12)]

    def episode(address: str, seed: int) -> np.ndarray:
        with PolicyClient(address) as client:
            return _episode(client, observations, seed)

    policy = NoisePolicy(chunk_length=3)
    with running_server(policy) as server, ThreadPoolExecutor(6) as threads:
        alone = [episode(server.address, seed) for seed in range(6)]
        together = list(threads.map(lambda seed: episode(server.address, seed), range(6)))
    np.testing.assert_array_equal(alone, together)


def test_a_reset_in_the_middle_of_an_episode_begins_anew(make_observation) -> None:
    observations = [make_observation(step) for step in range(8)]
    policy = RecordingPolicy(chunk_length=4)
    with running_server(policy) as server, PolicyClient(server.address) as client:
        whole = _episode(client, observations, seed=5)
        _episode(client, observations[:2], seed=5)
        np.testing.assert_array_equal(_episode(client, observations, seed=5), whole)


def test_a_step_that_was_given_up_is_answered_the_same_when_sent_again(
    make_observation, wire
) -> None:
    observation = make_observation()
    inner = NoisePolicy(chunk_length=2)
    policy = GatedPolicy(inner)
    expected = inner.plan([[observation]], [np.random.default_rng(1)])[0]
    with running_server(policy) as server, wire(server.address) as client:
        client.reset(seed=1)
        given_up = client.begin_step(observation)
        assert policy.next_batch_size() == 1
        given_up.cancel()
        server.wait_until(lambda running: running.num_in_flight == 0)
        policy.let_go(2)
        got = [decode_action(client.begin_step(observation).result().action) for _ in range(2)]
    np.testing.assert_array_equal(
        [_numbers(action) for action in got], [_numbers(action) for action in expected]
    )


def test_hold_commands_what_was_commanded_last(make_observation) -> None:
    observation = make_observation(4)
    with running_server(HoldPolicy()) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        action = client.step(observation)
    for arm, pose in observation.desired.poses.items():
        np.testing.assert_array_equal(action.poses[arm].matrix(), pose.matrix())
    assert dict(action.gripper_widths_m) == dict(observation.desired.gripper_widths_m)


@pytest.mark.parametrize("period_steps", [1, 5, 40])
def test_wave_only_rises_slowly_and_comes_back(make_observation, period_steps) -> None:
    observation = make_observation(4)
    policy = WavePolicy(period_steps=period_steps)
    with running_server(policy) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        actions = [client.step(observation) for _ in range(period_steps)]
    for arm, pose in observation.desired.poses.items():
        offsets_m = np.array(
            [np.zeros(3)]
            + [action.poses[arm].translation_m - pose.translation_m for action in actions]
        )
        np.testing.assert_array_equal(offsets_m[:, :2], 0)
        assert offsets_m[:, 2].min() > -1e-12
        np.testing.assert_allclose(offsets_m[-1], 0, atol=1e-12)
        speeds_m_s = np.abs(np.diff(offsets_m[:, 2])) * policy.contract.control_rate_hz
        assert speeds_m_s.max() <= WAVE_MAX_SPEED_M_S
        if period_steps == 40:
            assert offsets_m[:, 2].max() > 0.03


def test_a_step_before_reset_is_refused_and_says_what_to_do(make_observation) -> None:
    with (
        running_server(HoldPolicy()) as server,
        PolicyClient(server.address) as client,
        pytest.raises(PolicyServerRefusedError, match=r"FAILED_PRECONDITION.*PolicyReset"),
    ):
        client.step(make_observation())


def test_more_episodes_than_sessions_are_refused_while_the_others_are_fresh(
    make_observation,
) -> None:
    with (
        running_server(HoldPolicy(), _options(max_sessions=2)) as server,
        PolicyClient(server.address) as one,
        PolicyClient(server.address) as two,
        PolicyClient(server.address, retries=RetryPolicy(max_tries=1)) as three,
    ):
        one.reset(seed=0)
        two.reset(seed=0)
        with pytest.raises(PolicyServerRefusedError, match=r"RESOURCE_EXHAUSTED.*all 2 ses"):
            three.reset(seed=0)
        one.step(make_observation())
        two.step(make_observation())
