"""What our own client can ask for: chunks, asynchronous plans, streams, a policy by name."""

from __future__ import annotations

import queue
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import numpy as np
import pytest

from policy_interface.client import PolicyClient
from policy_interface.client_errors import ERROR_DETAIL_KEY, PolicyServerRefusedError
from policy_interface.codec import decode_action, encode_observation
from policy_interface.contract import Contract, ImageSize
from policy_interface.generated.assay_policy_interface import (
    PolicySession_pb2,
    PolicySession_pb2_grpc,
)
from policy_interface.generated.lbm_policy_interface import (
    GetPolicyMetadata_pb2,
    GetPolicyMetadata_pb2_grpc,
    PolicyReset_pb2,
    PolicyReset_pb2_grpc,
    PolicyStep_pb2,
    PolicyStep_pb2_grpc,
)
from policy_interface.types import Observation
from policy_server.scripted_policies import HoldPolicy
from policy_server.server import ServerOptions
from policy_server.testing import (
    GatedPolicy,
    GuidedNoisePolicy,
    NoisePolicy,
    RunningServer,
    running_server,
)

_PATIENCE_S = 30.0


def _options(**arguments: Any) -> ServerOptions:
    return ServerOptions(address="127.0.0.1:0", **arguments)


class Caller:
    """Our messages, with nothing in between."""

    def __init__(self, address: str) -> None:
        self.channel = grpc.insecure_channel(address)
        self.session = PolicySession_pb2_grpc.PolicySessionStub(self.channel)
        self._reset = PolicyReset_pb2_grpc.PolicyResetServiceStub(self.channel)
        self._step = PolicyStep_pb2_grpc.PolicyStepServiceStub(self.channel)
        self._metadata = GetPolicyMetadata_pb2_grpc.GetPolicyMetadataServiceStub(self.channel)
        self.identifier = str(uuid.uuid4())

    def reset(self, *, metadata: Any = (), **fields: Any) -> None:
        request = PolicyReset_pb2.PolicyResetRequest(client_identifier=self.identifier, **fields)
        assert self._reset.PolicyReset(request, timeout=_PATIENCE_S, metadata=metadata).success

    def name(self, *, metadata: Any = ()) -> str:
        request = GetPolicyMetadata_pb2.GetPolicyMetadataRequest()
        response = self._metadata.GetPolicyMetadata(request, timeout=_PATIENCE_S, metadata=metadata)
        return response.policy_metadata.name

    def begin_step(
        self, observation: Observation, timeout_s: float = _PATIENCE_S, **fields: Any
    ) -> Any:
        request = PolicyStep_pb2.PolicyStepRequest(
            client_identifier=self.identifier,
            observation=encode_observation(observation),
            **fields,
        )
        return self._step.PolicyStep.future(request, timeout=timeout_s)

    def step(self, observation: Observation, **fields: Any) -> PolicyStep_pb2.PolicyStepResponse:
        return self.begin_step(observation, **fields).result()

    def end(self) -> bool:
        request = PolicySession_pb2.EndEpisodeRequest(client_identifier=self.identifier)
        return self.session.EndEpisode(request, timeout=_PATIENCE_S).was_known


@contextmanager
def _served(policy: Any, **options: Any) -> Iterator[tuple[RunningServer, Caller]]:
    with running_server(policy, _options(**options)) as server:
        caller = Caller(server.address)
        with caller.channel:
            yield server, caller


def _refusal(call: Callable[[], Any]) -> tuple[grpc.StatusCode, str, PolicySession_pb2.ErrorDetail]:
    with pytest.raises(grpc.RpcError) as raised:
        call()
    error: Any = raised.value
    detail = next(value for key, value in error.trailing_metadata() if key == ERROR_DETAIL_KEY)
    return error.code(), error.details(), PolicySession_pb2.ErrorDetail.FromString(detail)


def _numbers(action: PolicyStep_pb2.PosesAndGrippers) -> np.ndarray:
    decoded = decode_action(action)
    return np.concatenate([pose.matrix().ravel() for _, pose in sorted(decoded.poses.items())])


def test_a_chunk_holds_this_action_and_those_after_it(make_observation) -> None:
    observation = make_observation()
    with _served(NoisePolicy(chunk_length=5), open_loop_steps=3) as (_, caller):
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
    with _served(NoisePolicy(chunk_length=8), open_loop_steps=4) as (_, caller):
        caller.reset(seed=0)
        caller.step(make_observation(), wants_chunk=True, control_step=0)
        later = caller.step(make_observation(), wants_chunk=True, control_step=6)
        assert later.chunk.first_control_step == later.chunk.planned_from_step == 6
        assert later.chunk.next_plan_step == 10
        code, text, detail = _refusal(lambda: caller.step(make_observation(), control_step=9))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "expected 7" in text
    assert (detail.reason, detail.field) == ("control_step", "")
    assert (detail.session, detail.control_step) == (caller.identifier, 7)


def test_a_repeated_step_gets_the_same_answer_and_advances_nothing(make_observation) -> None:
    policy = NoisePolicy(chunk_length=1)
    with _served(policy) as (server, caller):
        caller.reset(seed=0)
        answers = [caller.step(make_observation(), control_step=0) for _ in range(3)]
        after = caller.step(make_observation(), control_step=1)
        code, _, _ = _refusal(lambda: caller.step(make_observation(), control_step=0))
        assert server.server.metrics.num_plans == 2
    assert answers[0] == answers[1] == answers[2] != after
    assert code == grpc.StatusCode.FAILED_PRECONDITION


def test_an_episode_that_ended_takes_no_more_steps(make_observation) -> None:
    with _served(HoldPolicy()) as (server, caller):
        caller.reset(seed=0)
        caller.step(make_observation())
        assert server.server.num_sessions == 1
        assert caller.end()
        assert not caller.end()
        assert server.server.num_sessions == 0
        code, text, detail = _refusal(lambda: caller.step(make_observation()))
    assert code == grpc.StatusCode.FAILED_PRECONDITION
    assert "PolicyReset" in text
    assert detail.reason == "no_episode"


def test_a_handshake_lists_every_difference() -> None:
    policy = NoisePolicy(contract=Contract(cameras={"top": ImageSize(height=4, width=4)}))
    station = Contract(cameras={}, control_rate_hz=20.0)
    with _served(policy) as (_, caller):
        response = caller.session.Handshake(
            PolicySession_pb2.HandshakeRequest(station_contract=station.to_json())
        )
        assert Contract.from_json(response.policy_contract) == policy.contract
        assert len(response.differences) == 2
        assert list(response.policy_names) == [response.policy_metadata.name] == ["noise"]

        code, text, detail = _refusal(
            lambda: caller.reset(seed=0, station_contract=station.to_json())
        )
        assert code == grpc.StatusCode.FAILED_PRECONDITION
        assert all(difference in text for difference in response.differences)
        assert detail.reason == "station_mismatch"
        caller.reset(seed=0, station_contract=policy.contract.to_json())
        code, text, _ = _refusal(lambda: caller.reset(seed=0, station_contract="{"))
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
        with _served(NoisePolicy(chunk_length=3)) as (server, caller):
            caller.reset(seed=5)
            expected = [caller.step(observation) for observation in observations]
            caller.end()
            requests = [self._begin(seed=5), *map(self._step, observations)]
            responses = list(caller.session.Episode(iter(requests), timeout=_PATIENCE_S))
            assert uuid.UUID(responses[0].begun.session)
            assert [response.step for response in responses[1:]] == expected
            server.wait_until(lambda running: running.num_sessions == 0)

    def test_a_robot_that_executes_chunks_itself_says_where_it_is(self, make_observation) -> None:
        with (
            _served(NoisePolicy(chunk_length=8), open_loop_steps=4) as (server, _),
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
        with _served(HoldPolicy()) as (server, caller):
            call = caller.session.Episode(requests, timeout=_PATIENCE_S)
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
        with _served(policy, max_batch_size=1) as (server, caller):
            doomed = Caller(server.address)
            call = doomed.session.Episode(requests, timeout=_PATIENCE_S)
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
        with _served(HoldPolicy()) as (server, caller):
            call = caller.session.Episode(iter(requests), timeout=_PATIENCE_S)
            answered = [next(call), next(call)]
            code, text, detail = _refusal(lambda: next(call))
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
        with _served(HoldPolicy()) as (server, caller):
            method = caller.channel.stream_stream("/assay_policy_interface.PolicySession/Episode")
            code, _, detail = _refusal(lambda: next(method(iter([request]), timeout=_PATIENCE_S)))
            assert code == grpc.StatusCode.INVALID_ARGUMENT
            assert detail.reason == "malformed_request"
            assert server.server.num_sessions == 0

    def test_draining_ends_those_that_wait_and_answers_the_step_under_way(
        self, make_observation
    ) -> None:
        sent, requests = self._requests()
        working_sent, working_requests = self._requests()
        policy = GatedPolicy(HoldPolicy())
        with _served(policy) as (server, caller):
            waiting = caller.session.Episode(requests, timeout=_PATIENCE_S)
            sent.put(self._begin())
            assert next(waiting).begun.session
            working = caller.session.Episode(working_requests, timeout=_PATIENCE_S)
            working_sent.put(self._begin())
            assert next(working).begun.session
            working_sent.put(self._step(make_observation()))
            assert policy.next_batch_size() == 1
            draining = server.drain()
            code, text, _ = _refusal(lambda: next(waiting))
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "shutting down" in text
            assert not draining.done()
            policy.let_go()
            assert next(working).step.success
            assert _refusal(lambda: next(working))[0] == grpc.StatusCode.UNAVAILABLE
            assert draining.result(_PATIENCE_S)
            sent.put(None)
            working_sent.put(None)

    def test_an_idle_one_is_ended(self, make_observation) -> None:
        sent, requests = self._requests()
        with _served(HoldPolicy(), idle_s=0.05) as (_, caller):
            call = caller.session.Episode(requests, timeout=_PATIENCE_S)
            sent.put(self._begin())
            assert next(call).begun.session
            code, text, _ = _refusal(lambda: next(call))
            assert code == grpc.StatusCode.UNAVAILABLE
            assert "idle" in text
            sent.put(None)


class TestAsynchronousPlans:
    def test_the_step_that_starts_a_plan_does_not_wait_for_it(self, make_observation) -> None:
        policy = GatedPolicy(NoisePolicy(chunk_length=6))
        options = {"open_loop_steps": 3, "planned_latency_steps": 2}
        with _served(policy, **options) as (server, caller):
            caller.reset(seed=1)
            policy.let_go()
            chunk = caller.step(make_observation(), wants_chunk=True).chunk.actions
            for step in (1, 2, 3, 4):
                # Step 3 starts a plan, which the gate holds back; the first chunk goes on.
                assert caller.step(make_observation()).action == chunk[step]
            assert policy.next_batch_size() == 1
            assert policy.next_batch_size() == 1
            late = caller.begin_step(make_observation())
            server.wait_until(lambda running: running.metrics.num_late_plans == 1)
            assert not late.done()
            policy.let_go()
            replanned = late.result().action
        assert replanned != chunk[5]

    def test_when_a_plan_is_ready_changes_nothing(self, make_observation) -> None:
        """Planned from step 3, it takes effect at step 5, however soon it was made."""
        observation = make_observation()
        policy = NoisePolicy(chunk_length=6)
        generators = [np.random.default_rng((9, plan)) for plan in range(3)]
        chunks = policy.plan([[observation]] * 3, generators)
        expected = [*chunks[0][:5], *chunks[1][2:5], *chunks[2][2:4]]
        with _served(policy, open_loop_steps=3, planned_latency_steps=2) as (_, caller):
            caller.reset(seed=9)
            got = [caller.step(observation).action for _ in range(10)]
        for action, planned in zip(got, expected, strict=True):
            decoded = decode_action(action)
            assert all(
                np.array_equal(decoded.poses[arm].matrix(), pose.matrix())
                for arm, pose in planned.poses.items()
            )

    def test_an_episode_that_ends_under_a_step_that_waits_for_a_plan(
        self, make_observation
    ) -> None:
        policy = GatedPolicy(NoisePolicy(chunk_length=4))
        options = {"open_loop_steps": 2, "planned_latency_steps": 1}
        with _served(policy, **options) as (server, caller):
            caller.reset(seed=0)
            policy.let_go()
            for _ in range(3):
                caller.step(make_observation())
            late = caller.begin_step(make_observation())
            server.wait_until(lambda running: running.metrics.num_late_plans == 1)
            assert caller.end()
            assert late.code() == grpc.StatusCode.ABORTED
            assert "the episode ended" in late.details()
            policy.let_go()

    def test_a_plan_that_failed_is_made_again_when_it_is_asked_for_again(
        self, make_observation
    ) -> None:
        class OnceFailing(NoisePolicy):
            num_plans = 0

            def plan(self, histories, noise):
                self.num_plans += 1
                if self.num_plans == 2:
                    raise ZeroDivisionError("once")
                return super().plan(histories, noise)

        with _served(OnceFailing(chunk_length=4), open_loop_steps=2, planned_latency_steps=1) as (
            _,
            caller,
        ):
            caller.reset(seed=0)
            for _ in range(3):
                caller.step(make_observation())
            code, text, detail = _refusal(lambda: caller.step(make_observation()))
            assert code == grpc.StatusCode.INTERNAL
            assert "ZeroDivisionError: once" in text
            assert detail.reason == "policy_failed"
            assert caller.step(make_observation()).success

    def test_real_time_chunking_tells_the_policy_what_is_executed_meanwhile(
        self, make_observation
    ) -> None:
        policy = GuidedNoisePolicy(chunk_length=6)
        options = {"execution": "rtc", "open_loop_steps": 3, "planned_latency_steps": 2}
        with _served(policy, **options) as (_, caller):
            caller.reset(seed=0)
            actions = [caller.step(make_observation()).action for _ in range(5)]
            caller.step(make_observation())
        (guidance,) = [each for each in policy.guidance if each is not None]
        assert guidance.num_frozen == 2
        assert len(guidance.actions) == 3
        for executed, frozen in zip(actions[3:], guidance.actions[:2], strict=True):
            assert np.array_equal(
                _numbers(executed),
                np.concatenate([pose.matrix().ravel() for _, pose in sorted(frozen.poses.items())]),
            )

    def test_an_ensemble_replans_at_every_step(self, make_observation) -> None:
        policy = NoisePolicy(chunk_length=4)
        with _served(policy, execution="ensemble") as (server, caller):
            caller.reset(seed=0)
            for _ in range(6):
                caller.step(make_observation())
            assert server.server.metrics.num_plans == 6


class TestSeveralPolicies:
    def test_the_client_chooses_by_name_and_gets_the_first_otherwise(
        self, make_observation
    ) -> None:
        policies = {"one": NoisePolicy(chunk_length=1), "two": HoldPolicy()}
        observation = make_observation()
        held = np.concatenate(
            [pose.matrix().ravel() for _, pose in sorted(observation.desired.poses.items())]
        )
        with _served(policies) as (_, caller):
            assert caller.name() == "one"
            assert caller.name(metadata=(("assay-policy", "two"),)) == "two"
            caller.reset(seed=0)
            assert not np.array_equal(_numbers(caller.step(observation).action), held)
            caller.reset(seed=0, metadata=(("assay-policy", "two"),))
            assert np.array_equal(_numbers(caller.step(observation).action), held)
            caller.reset(seed=0, policy="two")
            assert np.array_equal(_numbers(caller.step(observation).action), held)
            code, text, detail = _refusal(lambda: caller.reset(seed=0, policy="three"))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "['one', 'two']" in text
        assert detail.reason == "unknown_policy"

    def test_a_reload_drops_no_episode(self, make_observation) -> None:
        old, new = NoisePolicy(chunk_length=1), NoisePolicy(chunk_length=2)
        with _served(old) as (server, caller):
            caller.reset(seed=0)
            caller.step(make_observation())
            server.reload(lambda: new).result(_PATIENCE_S)
            newcomer = Caller(server.address)
            with newcomer.channel:
                newcomer.reset(seed=0)
                assert len(newcomer.step(make_observation(), wants_chunk=True).chunk.actions) == 2
                still_old = caller.step(make_observation(), wants_chunk=True)
                assert len(still_old.chunk.actions) == 1
            assert len(server.server.policies) == 1
            caller.end()

    def test_a_reload_that_fails_changes_nothing(self, make_observation) -> None:
        def broken() -> HoldPolicy:
            raise OSError("the disk is gone")

        with _served(HoldPolicy()) as (server, caller):
            with pytest.raises(OSError, match="disk"):
                server.reload(broken).result(_PATIENCE_S)
            caller.reset(seed=0)
            assert caller.step(make_observation()).success


class TestLimits:
    def test_a_full_queue_refuses_with_a_hint(self, make_observation) -> None:
        policy = GatedPolicy(HoldPolicy())
        with _served(policy, max_batch_size=1, max_queue=2) as (server, _):
            callers = [Caller(server.address) for _ in range(4)]
            for caller in callers:
                caller.reset(seed=0)
            calls = [callers[0].begin_step(make_observation())]
            assert policy.next_batch_size() == 1
            for number, caller in enumerate(callers[1:3], start=1):
                calls.append(caller.begin_step(make_observation()))
                server.wait_until(lambda running, n=number: running.num_waiting == n)
            code, text, detail = _refusal(lambda: callers[3].step(make_observation()))
            assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "2 plans are waiting" in text
            assert detail.reason == "queue_full"
            assert detail.retry_after_ms >= 1
            policy.let_go(3)
            assert all(call.result().success for call in calls)
            policy.let_go()
            assert callers[3].step(make_observation()).success
            for caller in callers:
                caller.channel.close()

    def test_a_client_that_calls_too_often_is_told_when_it_may(self, make_observation) -> None:
        with _served(HoldPolicy(), max_calls_per_s=0.5) as (_, caller):
            caller.reset(seed=0)
            code, text, detail = _refusal(lambda: caller.step(make_observation()))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "try again in" in text
        assert detail.reason == "rate_limit"
        assert 0 < detail.retry_after_ms <= 2000

    def test_a_step_that_cannot_be_in_time_is_refused_not_computed(self, make_observation) -> None:
        policy = GatedPolicy(HoldPolicy())
        with _served(policy, max_batch_size=1) as (server, caller):
            caller.reset(seed=0)
            slow = caller.begin_step(make_observation())
            assert policy.next_batch_size() == 1
            hasty = Caller(server.address)
            hasty.reset(seed=0)
            late = hasty.begin_step(make_observation(), timeout_s=0.2)
            server.wait_until(lambda running: running.num_waiting == 1)
            assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            server.wait_until(lambda running: running.num_waiting == 0)
            policy.let_go()
            assert slow.result().success
            server.wait_until(lambda running: running.metrics.num_plans == 1)
            hasty.channel.close()
