"""An episode as our own client runs it: chunks, a handshake, an end, one stream for all of it."""

from __future__ import annotations

import base64
import queue
import uuid
from collections.abc import Iterator
from typing import Any

import grpc
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.client import PolicyClient
from policy_interface.client_errors import PolicyServerRefusedError, StationMismatchError
from policy_interface.codec import encode_observation
from policy_interface.contract import Contract, ContractError, ImageSize
from policy_interface.generated.assay_policy_interface import PolicySession_pb2
from policy_interface.shared_work import shared
from policy_interface.types import InvalidValueError, Observation
from policy_server import refusals
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import GatedPolicy, NoisePolicy
from tests.policy_server.caller import PATIENCE_S, Caller, refusal, served


def test_a_chunk_holds_this_action_and_those_after_it(make_observation) -> None:
    observation = make_observation()
    with served(NoisePolicy(chunk_length=5), open_loop_steps=3) as (_, caller):
        caller.reset(seed=3)
        first = caller.step(observation, wants_chunk=True)
        second = caller.step(observation, wants_chunk=True)
        third = caller.step(observation)
    assert len(first.chunk.actions) == 5
    assert len(second.chunk.actions) == 4
    assert not third.HasField("chunk")
    assert (first.chunk.first_control_step, second.chunk.first_control_step) == (0, 1)
    assert first.chunk.planned_from_step == second.chunk.planned_from_step == 0
    assert first.chunk.next_plan_step == second.chunk.next_plan_step == 3
    assert first.chunk.control_rate_hz == 10.0
    assert first.chunk.inference_s > 0
    assert second.chunk.inference_s == 0
    assert first.chunk.actions[0] == first.action
    assert list(first.chunk.actions[1:]) == list(second.chunk.actions)
    assert third.action == first.chunk.actions[2]


def test_a_robot_that_executes_chunks_itself_goes_on_where_it_is(make_observation) -> None:
    with served(NoisePolicy(chunk_length=8), open_loop_steps=4) as (_, caller):
        caller.reset(seed=0)
        caller.step(make_observation(), wants_chunk=True, control_step=0)
        later = caller.step(make_observation(), wants_chunk=True, control_step=6)
        assert later.chunk.first_control_step == later.chunk.planned_from_step == 6
        assert later.chunk.next_plan_step == 10
        code, text, detail = refusal(lambda: caller.step(make_observation(), control_step=9))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "expected 7" in text
    assert (detail.reason, detail.field) == ("control_step", "")
    assert (detail.session, detail.control_step) == (caller.identifier, 7)


def test_a_long_refusal_arrives_whatever_the_cameras_are_called(make_observation) -> None:
    """It travels in 8 KiB of trailers, of which a Chinese character takes thirteen bytes."""
    size = ImageSize(height=8, width=12)
    policy = NoisePolicy(contract=Contract(cameras={f"相机{index}": size for index in range(4)}))
    station = Contract(cameras={f"桌子上方左边的第{index}台彩色相机": size for index in range(30)})
    with (
        served(policy) as (server, _),
        PolicyClient(server.address) as client,
        pytest.raises(StationMismatchError, match="the station has .*characters in all") as raised,
    ):
        client.reset(seed=0, station_contract=station)
    assert raised.value.reason == "station_mismatch"


@given(st.text(min_size=1, max_size=300), st.integers(1, 3000), st.booleans())
def test_no_refusal_is_larger_than_what_grpc_lets_through(text, num_times, is_of_a_field) -> None:
    text *= num_times
    error = InvalidValueError(f"{text}: {text}") if is_of_a_field else ContractError(text)
    refused = refusals.refusal(error, session=str(uuid.uuid4()))
    # As gRPC encodes a status's text: all but printable ASCII takes three characters a byte.
    num_encoded = sum(1 if 0x20 <= byte < 0x7F else 3 for byte in refused.text.encode())
    num_encoded += 2 * refused.text.count("%")
    for _, value in refused.metadata:
        num_encoded += len(base64.b64encode(value) if isinstance(value, bytes) else value)
    # With room for what the headers are called, and for gRPC's own.
    assert num_encoded < 8 * 1024 - 512
    if len(text) < 300 and not is_of_a_field:
        assert refused.text == text


def test_a_control_step_beyond_any_episode_is_refused_and_changes_nothing(make_observation) -> None:
    """The numbers after it would not fit into the wire's 32 bits."""
    with served(NoisePolicy(chunk_length=4)) as (server, caller):
        caller.reset(seed=1)
        for control_step in (2**31 + 1, 2**32 - 1):
            code, text, detail = refusal(
                lambda step=control_step: caller.step(
                    make_observation(), wants_chunk=True, control_step=step
                )
            )
            assert code == grpc.StatusCode.FAILED_PRECONDITION
            assert f"at most 2147483648, got {control_step}" in text
            assert (detail.reason, detail.control_step) == ("control_step", 0)
        assert server.server.metrics.num_refusals == 2
        assert caller.step(make_observation(), control_step=0).success
        last = caller.step(make_observation(), wants_chunk=True, control_step=2**31).chunk
        assert last.first_control_step == 2**31


def test_a_repeated_step_gets_the_same_answer_and_advances_nothing(make_observation) -> None:
    policy = NoisePolicy(chunk_length=1)
    with served(policy) as (server, caller):
        caller.reset(seed=0)
        answers = [caller.step(make_observation(), control_step=0) for _ in range(3)]
        after = caller.step(make_observation(), control_step=1)
        code, _, _ = refusal(lambda: caller.step(make_observation(), control_step=0))
        assert server.server.metrics.num_plans == 2
    assert answers[0] == answers[1] == answers[2] != after
    assert code == grpc.StatusCode.FAILED_PRECONDITION


def test_images_are_shared_between_threads_while_one_episode_alone_is_stepped(
    make_observation, monkeypatch
) -> None:
    """Several episodes keep the cores busy by themselves, and sharing costs a tenth more."""
    nums_helpers: list[int] = []

    def noting(*arguments: Any, num_helpers: int, **others: Any) -> Any:
        nums_helpers.append(num_helpers)
        return shared(*arguments, num_helpers=num_helpers, **others)

    monkeypatch.setattr("policy_server.episodes._NUM_HELPERS", 1)
    monkeypatch.setattr("policy_server.episodes.shared", noting)
    size = ImageSize(height=224, width=224)
    observation = make_observation(cameras=dict.fromkeys("abcd", size))
    with (
        served(HoldPolicy()) as (server, _),
        PolicyClient(server.address, encoding="jpeg") as one,
        PolicyClient(server.address, encoding="jpeg") as other,
    ):
        for client in (one, other):
            client.reset(seed=0)
        for client in (one, other, one, one, one, other):
            client.step(observation)
    assert nums_helpers == [0, 0, 0, 1, 1, 0]


def test_an_episode_that_ended_takes_no_more_steps(make_observation) -> None:
    with served(HoldPolicy()) as (server, caller):
        caller.reset(seed=0)
        caller.step(make_observation())
        assert server.server.num_sessions == 1
        assert caller.end()
        assert not caller.end()
        assert server.server.num_sessions == 0
        code, text, detail = refusal(lambda: caller.step(make_observation()))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "PolicyReset" in text
    assert detail.reason == "no_episode"


def test_a_handshake_lists_every_difference() -> None:
    policy = NoisePolicy(contract=Contract(cameras={"top": ImageSize(height=4, width=4)}))
    station = Contract(cameras={}, control_rate_hz=20.0)
    with served(policy) as (_, caller):
        response = caller.session.Handshake(
            PolicySession_pb2.HandshakeRequest(station_contract=station.to_json())
        )
        assert Contract.from_json(response.policy_contract) == policy.contract
        assert len(response.differences) == 2
        assert list(response.policy_names) == [response.policy_metadata.name] == ["noise"]

        code, text, detail = refusal(
            lambda: caller.reset(seed=0, station_contract=station.to_json())
        )
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert all(difference in text for difference in response.differences)
        assert detail.reason == "station_mismatch"
        caller.reset(seed=0, station_contract=policy.contract.to_json())
        code, text, _ = refusal(lambda: caller.reset(seed=0, station_contract="{"))
        assert code == grpc.StatusCode.INVALID_ARGUMENT
        assert "contract" in text


class TestStream:
    def _requests(self) -> tuple[queue.SimpleQueue[Any], Iterator[Any]]:
        sent: queue.SimpleQueue[Any] = queue.SimpleQueue()
        return sent, iter(sent.get, None)

    def _begin(self, seed: int = 0) -> PolicySession_pb2.EpisodeRequest:
        return PolicySession_pb2.EpisodeRequest(begin=PolicySession_pb2.EpisodeBegin(seed=seed))

    def _step(self, observation: Observation, **fields: Any) -> PolicySession_pb2.EpisodeRequest:
        return PolicySession_pb2.EpisodeRequest(
            step=PolicySession_pb2.EpisodeStep(
                observation=encode_observation(observation), **fields
            )
        )

    def test_it_answers_as_calls_by_themselves_do(self, make_observation) -> None:
        observations = [make_observation(step) for step in range(7)]
        with served(NoisePolicy(chunk_length=3)) as (server, caller):
            caller.reset(seed=5)
            expected = [caller.step(observation) for observation in observations]
            caller.end()
            requests = [self._begin(seed=5), *map(self._step, observations)]
            responses = list(caller.session.Episode(iter(requests), timeout=PATIENCE_S))
            assert uuid.UUID(responses[0].begun.session)
            assert [response.step for response in responses[1:]] == expected
            server.wait_until(lambda running: running.num_sessions == 0)

    def test_a_robot_that_executes_chunks_itself_says_where_it_is(self, make_observation) -> None:
        with (
            served(NoisePolicy(chunk_length=8), open_loop_steps=4) as (server, _),
            PolicyClient(server.address) as client,
            client.episode(seed=0) as episode,
        ):
            assert episode.step_chunk(make_observation()).planned_from_step == 0
            later = episode.step_chunk(make_observation(), control_step=6)
            assert (later.first_control_step, later.planned_from_step) == (6, 6)
            with pytest.raises(PolicyServerRefusedError, match="control_step: expected 7") as no:
                episode.step_chunk(make_observation(), control_step=3)
            assert no.value.session == episode.session

    def test_its_state_dies_with_it(self, make_observation) -> None:
        sent, requests = self._requests()
        with served(HoldPolicy()) as (server, caller):
            call = caller.session.Episode(requests, timeout=PATIENCE_S)
            sent.put(self._begin())
            assert next(call).begun.session
            sent.put(self._step(make_observation()))
            assert next(call).step.success
            assert server.server.num_sessions == 1
            call.cancel()
            server.wait_until(lambda running: running.num_sessions == 0)
            sent.put(None)

    def test_a_killed_client_leaves_no_session_and_disturbs_nobody(self, make_observation) -> None:
        sent, requests = self._requests()
        policy = GatedPolicy(HoldPolicy())
        with served(policy, max_batch_size=1) as (server, caller):
            doomed = Caller(server.address)
            call = doomed.session.Episode(requests, timeout=PATIENCE_S)
            sent.put(self._begin())
            assert next(call).begun.session
            sent.put(self._step(make_observation()))
            assert policy.next_batch_size() == 1
            doomed.channel.close()
            sent.put(None)
            server.wait_until(lambda running: running.num_sessions == 0)
            caller.reset(seed=0)
            step = caller.begin_step(make_observation())
            policy.let_go(2)
            assert step.result().success

    def test_a_bad_step_ends_it_with_a_reason(self, make_observation) -> None:
        bad = self._step(make_observation())
        bad.step.observation.visuo[0].camera_rgb.image.height = 7
        requests = [self._begin(), self._step(make_observation()), bad]
        with served(HoldPolicy()) as (server, caller):
            call = caller.session.Episode(iter(requests), timeout=PATIENCE_S)
            answered = [next(call), next(call)]
            code, text, detail = refusal(lambda: next(call))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert "takes" in text
            assert detail.reason == "invalid_value"
            assert detail.session == answered[0].begun.session
            assert detail.control_step == 1
            server.wait_until(lambda running: running.num_sessions == 0)

    @pytest.mark.parametrize("first", ["step", "nothing", "garbage"])
    def test_it_begins_with_a_beginning(self, make_observation, first) -> None:
        request = {
            "step": self._step(make_observation()).SerializeToString(),
            "nothing": b"",
            "garbage": b"\xff\xff\xff",
        }[first]
        with served(HoldPolicy()) as (server, caller):
            method = caller.channel.stream_stream("/assay_policy_interface.PolicySession/Episode")
            code, _, detail = refusal(lambda: next(method(iter([request]), timeout=PATIENCE_S)))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert detail.reason == "malformed_request"
            assert server.server.num_sessions == 0

    def test_draining_ends_those_that_wait_and_answers_the_step_under_way(
        self, make_observation
    ) -> None:
        sent, requests = self._requests()
        working_sent, working_requests = self._requests()
        policy = GatedPolicy(HoldPolicy())
        with served(policy) as (server, caller):
            waiting = caller.session.Episode(requests, timeout=PATIENCE_S)
            sent.put(self._begin())
            assert next(waiting).begun.session
            working = caller.session.Episode(working_requests, timeout=PATIENCE_S)
            working_sent.put(self._begin())
            assert next(working).begun.session
            working_sent.put(self._step(make_observation()))
            assert policy.next_batch_size() == 1
            draining = server.drain()
            code, text, _ = refusal(lambda: next(waiting))
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in text
            assert not draining.done()
            policy.let_go()
            assert next(working).step.success
            assert refusal(lambda: next(working))[0] == grpc.StatusCode.UNAVAILABLE
            assert draining.result(PATIENCE_S)
            sent.put(None)
            working_sent.put(None)

    def test_an_idle_one_is_ended(self, make_observation) -> None:
        sent, requests = self._requests()
        with served(HoldPolicy(), idle_s=0.05) as (_, caller):
            call = caller.session.Episode(requests, timeout=PATIENCE_S)
            sent.put(self._begin())
            assert next(call).begun.session
            code, text, _ = refusal(lambda: next(call))
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "idle" in text
            sent.put(None)
