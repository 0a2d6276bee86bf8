"""A policy by name, and one that is replaced while it is served."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import NoisePolicy
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
