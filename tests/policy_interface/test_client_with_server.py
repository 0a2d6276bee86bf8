"""Both clients against the policy server itself."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from policy_interface.client import PolicyClient
from policy_interface.client_errors import (
    InvalidRequestError,
    NoEpisodeError,
    NotAuthorizedError,
    OverloadedError,
    PolicyFailureError,
    StationMismatchError,
    UnavailableError,
    UnknownPolicyError,
)
from policy_interface.client_options import ClientCredentials, RetryPolicy
from policy_interface.contract import Contract, ContractError, ImageSize
from policy_interface.types import Action, Pose
from policy_server.scripted_policies import HoldPolicy
from policy_server.security import BearerTokens
from policy_server.server import ServerOptions
from policy_server.testing import NoisePolicy, running_server

CAMERAS = {"scene_right_0": ImageSize(height=8, width=12)}
ONCE = RetryPolicy(max_tries=1)


class TersePolicy(NoisePolicy):
    """Of few words, as one that was trained with short instructions."""

    def plan(self, histories: Any, noise: Any) -> Any:
        for history in histories:
            if len(history[-1].language_instruction) > 10:
                raise ContractError("instruction: expected at most 10 letters")
        return super().plan(histories, noise)


class InstantTersePolicy(TersePolicy):
    is_instant = True


class FailingPolicy(HoldPolicy):
    def plan(self, histories: Any, noise: Any) -> Any:
        raise ZeroDivisionError("a policy of the user's")


def _options(**options: Any) -> ServerOptions:
    return ServerOptions(address="127.0.0.1:0", **options)


def _numbers(actions: list[Action]) -> np.ndarray:
    return np.array([[pose.matrix() for pose in action.poses.values()] for action in actions])


@pytest.mark.parametrize("encoding", ["raw", "jpeg", "png"])
def test_calls_a_stream_and_chunks_tell_of_the_same_episode(
    connect: Callable[..., Any], make_observation, encoding
) -> None:
    policy = NoisePolicy(chunk_length=4, contract=Contract(cameras=CAMERAS))
    observation = make_observation()
    with (
        running_server(policy) as server,
        connect(server.address, encoding=encoding) as client,
    ):
        client.wait_until_serving(timeout_s=60)
        assert client.contract() == policy.contract
        client.reset(seed=7, station_contract=policy.contract)
        called = [client.step(observation) for _ in range(6)]
        assert client.end_episode()
        assert not client.end_episode()
        with client.episode(seed=7, station_contract=policy.contract) as episode:
            streamed = [episode.step(observation) for _ in range(6)]
        client.reset(seed=7)
        chunks = [client.step_chunk(observation), client.step_chunk(observation, control_step=4)]
        server.wait_until(lambda running: running.num_sessions == 1)
    assert np.array_equal(_numbers(called), _numbers(streamed))
    assert np.array_equal(_numbers(called[:4]), _numbers(list(chunks[0].actions)))
    assert np.array_equal(_numbers(called[4:]), _numbers(list(chunks[1].actions[:2])))
    assert (chunks[0].planned_from_step, chunks[0].next_plan_step) == (0, 4)
    assert (chunks[1].first_control_step, chunks[1].planned_from_step) == (4, 4)
    assert chunks[1].control_rate_hz == 10.0
    assert chunks[1].timing.inference_s > 0


def test_a_policy_is_chosen_by_name(connect, make_observation) -> None:
    policies = {"still": HoldPolicy(), "noisy": NoisePolicy()}
    observation = make_observation()
    still = [pose.matrix() for pose in observation.desired.poses.values()]
    with running_server(policies) as server:
        for name in policies:
            with connect(server.address, policy=name) as client:
                met = client.handshake()
                assert met.metadata.name == client.metadata().name == name
                assert met.policy_names == ("still", "noisy")
                client.reset(seed=1)
                action = client.step(observation)
                assert np.array_equal(_numbers([action])[0], still) is (name == "still")
        with connect(server.address, policy="other") as client:
            with pytest.raises(UnknownPolicyError, match="other"):
                client.reset(seed=1)
            with pytest.raises(UnknownPolicyError, match="other"), client.episode(seed=1):
                pass


def test_what_is_wrong_is_an_error_of_its_own(connect, make_observation) -> None:
    policy = NoisePolicy(contract=Contract(cameras=CAMERAS))
    with running_server(policy) as server, connect(server.address) as client:
        blind = Contract(cameras={})
        assert len(client.handshake(blind).differences) == 1
        for begin in (
            lambda: client.reset(seed=0, station_contract=blind),
            lambda: client.episode(seed=0, station_contract=blind).__enter__(),
        ):
            with pytest.raises(StationMismatchError, match="scene_right_0"):
                begin()
        with pytest.raises(NoEpisodeError) as never_begun:
            client.step(make_observation())
        client.reset(seed=0)
        with pytest.raises(InvalidRequestError, match="scene_right_0") as caught:
            client.step(make_observation(cameras={}))
        # The episode goes on.
        client.step(make_observation())
    assert never_begun.value.reason == "no_episode"
    assert caught.value.is_final


@pytest.mark.parametrize("policy", [TersePolicy, InstantTersePolicy])
def test_what_a_policy_cannot_plan_for_is_the_fault_of_who_asks(
    connect, make_observation, caplog, policy
) -> None:
    with running_server(policy()) as server, connect(server.address) as client:
        client.reset(seed=0)
        with pytest.raises(InvalidRequestError, match="at most 10 letters") as caught:
            client.step(make_observation(instruction="put the box into the bin"))
        # The episode goes on.
        client.step(make_observation(instruction="go"))
    assert caught.value.reason == "broken_contract"
    assert caught.value.is_final
    assert "Traceback" not in caplog.text


def test_a_policy_that_fails_fails_its_step(connect, make_observation) -> None:
    with running_server(FailingPolicy()) as server, connect(server.address) as client:
        client.reset(seed=0)
        with pytest.raises(PolicyFailureError) as called:
            client.step(make_observation())
        with client.episode(seed=0) as episode, pytest.raises(PolicyFailureError) as streamed:
            episode.step(make_observation())
    for caught in (called, streamed):
        assert "ZeroDivisionError: a policy of the user's" in str(caught.value)
        assert caught.value.reason == "policy_failed"
        assert caught.value.is_final
    assert streamed.value.session == episode.session
    assert streamed.value.control_step == 0


@pytest.mark.parametrize(
    ("plan", "text"),
    [
        (lambda actions: actions[:1], "expected at least 2 actions, got 1"),
        (
            lambda actions: [replace(action, gripper_widths_m={}) for action in actions],
            "gripper 'right::panda_hand' missing in the action",
        ),
        (lambda actions: [Pose(rotation=np.eye(3), translation_m=[np.nan] * 3)], "finite numbers"),
        (
            lambda actions: [Pose(rotation=2 * np.eye(3), translation_m=np.zeros(3))],
            "expected an orthonormal, right-handed 3x3 matrix",
        ),
    ],
)
def test_a_plan_that_is_none_is_told_from_a_failure(connect, make_observation, plan, text) -> None:
    class MisplanningPolicy(NoisePolicy):
        def plan(self, histories, noise):
            return [plan(chunk) for chunk in super().plan(histories, noise)]

    policy = MisplanningPolicy(chunk_length=2)
    with running_server(policy) as server, connect(server.address) as client:
        client.reset(seed=0)
        with pytest.raises(PolicyFailureError, match=text) as caught:
            client.step(make_observation())
    assert caught.value.reason == "invalid_plan"


def test_one_episode_too_many_is_told_when_to_come_back(connect, make_observation) -> None:
    with (
        running_server(HoldPolicy(), _options(max_sessions=1)) as server,
        PolicyClient(server.address) as first,
    ):
        first.reset(seed=0)
        first.step(make_observation())
        pauses = []

        def make_room(pause_s: float) -> None:
            pauses.append(pause_s)
            first.end_episode()

        with (
            connect(server.address, retries=ONCE) as late,
            pytest.raises(OverloadedError) as caught,
        ):
            late.reset(seed=0)
        with connect(server.address, sleep=make_room) as patient:
            patient.reset(seed=0)
            patient.step(make_observation())
    assert caught.value.retry_after_s
    assert len(pauses) == 1
    assert pauses[0] >= caught.value.retry_after_s


def test_a_server_that_shuts_down_says_so(connect, make_observation) -> None:
    with (
        running_server(HoldPolicy()) as server,
        connect(server.address, retries=ONCE) as client,
    ):
        client.reset(seed=0)
        with client.episode(seed=0) as episode:
            episode.step(make_observation())
            server.drain().result(30)
            with pytest.raises(UnavailableError):
                episode.step(make_observation())
        with pytest.raises(UnavailableError):
            client.step(make_observation())


def test_tokens_are_shown_to_a_server_that_wants_them(connect, make_observation, tmp_path) -> None:
    path = tmp_path / "tokens"
    path.write_text("robot-7:a-word-of-24-characters\n")
    path.chmod(0o600)
    with running_server(HoldPolicy(), _options(tokens=BearerTokens(path))) as server:
        with connect(server.address) as client:
            client.wait_until_serving(timeout_s=60)
            with pytest.raises(NotAuthorizedError):
                client.reset(seed=0)
            with pytest.raises(NotAuthorizedError), client.episode(seed=0):
                pass
        known = ClientCredentials(token="a-word-of-24-characters")  # noqa: S106
        with connect(server.address, credentials=known) as client:
            client.reset(seed=0)
            client.step(make_observation())
