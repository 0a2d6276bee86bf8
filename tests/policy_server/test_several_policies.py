"""A policy by name, and one that is replaced while it is served."""

from __future__ import annotations

import threading
from collections.abc import Callable

import grpc
import numpy as np
import pytest

from policy_interface.generated.lbm_policy_interface import PolicyStep_pb2
from policy_interface.images import decode_image
from policy_server import episodes
from policy_server.policy import InvalidPolicyError, Policy
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import GatedPolicy, NoisePolicy
from tests.policy_server.caller import PATIENCE_S, Caller, numbers, refusal, served


class TestSeveralPolicies:
    def test_the_client_chooses_by_name_and_gets_the_first_otherwise(
        self, make_observation
    ) -> None:
        policies = {"one": NoisePolicy(chunk_length=1), "two": HoldPolicy()}
        observation = make_observation()
        held = np.concatenate(
            [pose.matrix().ravel() for _, pose in sorted(observation.desired.poses.items())]
        )
        with served(policies) as (_, caller):
            assert caller.name() == "one"
            assert caller.name(metadata=(("assay-policy", "two"),)) == "two"
            caller.reset(seed=0)
            assert not np.array_equal(numbers(caller.step(observation).action), held)
            caller.reset(seed=0, metadata=(("assay-policy", "two"),))
            assert np.array_equal(numbers(caller.step(observation).action), held)
            caller.reset(seed=0, policy="two")
            assert np.array_equal(numbers(caller.step(observation).action), held)
            code, text, detail = refusal(lambda: caller.reset(seed=0, policy="three"))
        assert code == grpc.StatusCode.NOT_FOUND
        assert "['one', 'two']" in text
        assert detail.reason == "unknown_policy"

    def test_a_reload_drops_no_episode(self, make_observation) -> None:
        old, new = NoisePolicy(chunk_length=1), NoisePolicy(chunk_length=2)
        with served(old) as (server, caller):
            caller.reset(seed=0)
            caller.step(make_observation())
            server.reload(lambda: new).result(PATIENCE_S)
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

        with served(HoldPolicy()) as (server, caller):
            with pytest.raises(OSError, match="disk"):
                server.reload(broken).result(PATIENCE_S)
            caller.reset(seed=0)
            assert caller.step(make_observation()).success

    def test_a_reload_replaces_all_or_none(self, make_observation) -> None:
        def broken() -> HoldPolicy:
            raise OSError("the disk is gone")

        old = {"one": NoisePolicy(chunk_length=1), "two": NoisePolicy(chunk_length=1)}
        with served(old) as (server, caller):
            builds: dict[str, Callable[[], Policy]] = {
                "one": lambda: NoisePolicy(chunk_length=2),
                "two": broken,
            }
            with pytest.raises(OSError, match="disk"):
                server.reload(builds).result(PATIENCE_S)
            caller.reset(seed=0, policy="one")
            assert len(caller.step(make_observation(), wants_chunk=True).chunk.actions) == 1
            builds["two"] = lambda: NoisePolicy(chunk_length=3)
            server.reload(builds).result(PATIENCE_S)
            for name, num_actions in (("one", 2), ("two", 3)):
                caller.reset(seed=0, policy=name)
                chunk = caller.step(make_observation(), wants_chunk=True).chunk
                assert len(chunk.actions) == num_actions

    def test_two_of_one_name_are_refused_and_leave_no_thread(self) -> None:
        threads = []

        def build() -> HoldPolicy:
            threads.append(threading.current_thread())
            return HoldPolicy()

        with served(HoldPolicy()) as (server, caller):
            with pytest.raises(InvalidPolicyError, match="different names"):
                server.load({None: build, caller.name(): build}).result(PATIENCE_S)
            assert len(threads) == 2
            for thread in threads:
                thread.join(PATIENCE_S)
                assert not thread.is_alive()
            caller.reset(seed=0)

    def test_a_replaced_policy_answers_those_whose_episodes_ended_meanwhile(
        self, make_observation
    ) -> None:
        policy = GatedPolicy(NoisePolicy(chunk_length=1))
        with served(policy, max_batch_size=1) as (server, first):
            second = Caller(server.address)
            with second.channel:
                first.reset(seed=0)
                second.reset(seed=0)
                planned = first.begin_step(make_observation())
                assert policy.next_batch_size() == 1
                waiting = second.begin_step(make_observation())
                server.wait_until(lambda running: running.num_waiting == 1)
                server.reload(HoldPolicy).result(PATIENCE_S)
                assert first.end()
                assert second.end()
                policy.let_go(2)
                for call in (planned, waiting):
                    assert call.code() == grpc.StatusCode.ABORTED
                    assert "the episode ended" in call.details()

    def test_a_replaced_policy_is_asked_for_no_plan_once_its_episodes_have_ended(
        self, make_observation, monkeypatch
    ) -> None:
        is_decoding, may_go_on = threading.Event(), threading.Event()

        def decode(image: PolicyStep_pb2.Image, name: str) -> np.ndarray:
            is_decoding.set()
            assert may_go_on.wait(PATIENCE_S)
            return decode_image(image, name)

        monkeypatch.setattr(episodes, "decode_image", decode)
        with served(NoisePolicy(chunk_length=1)) as (server, caller):
            caller.reset(seed=0)
            call = caller.begin_step(make_observation(), encoding="png")
            assert is_decoding.wait(PATIENCE_S)
            server.reload(HoldPolicy).result(PATIENCE_S)
            assert caller.end()
            may_go_on.set()
            assert call.code() == grpc.StatusCode.ABORTED
            assert "the episode ended" in call.details()
