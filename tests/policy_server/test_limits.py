"""What a server under load refuses, and what it says of when to try again."""

from __future__ import annotations

import grpc

from policy_server import services
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import GatedPolicy
from tests.policy_server.caller import Caller, refusal, served


class TestLimits:
    def test_a_full_queue_refuses_with_a_hint(self, make_observation) -> None:
        policy = GatedPolicy(HoldPolicy())
        with served(policy, max_batch_size=1, max_queue=2) as (server, _):
            callers = [Caller(server.address) for _ in range(4)]
            for caller in callers:
                caller.reset(seed=0)
            calls = [callers[0].begin_step(make_observation())]
            assert policy.next_batch_size() == 1
            for number, caller in enumerate(callers[1:3], start=1):
                calls.append(caller.begin_step(make_observation()))
                server.wait_until(lambda running, n=number: running.num_waiting == n)
            code, text, detail = refusal(lambda: callers[3].step(make_observation()))
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
        with served(HoldPolicy(), max_calls_per_s=0.001) as (_, caller):
            caller.reset(seed=0)
            code, text, detail = refusal(lambda: caller.step(make_observation()))
        assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
        assert "try again in" in text
        assert detail.reason == "rate_limit"
        assert 900_000 < detail.retry_after_ms <= 1_000_000

    def test_no_message_is_looked_at_that_comes_too_often(
        self, make_observation, monkeypatch
    ) -> None:
        """Whoever calls too often would keep the server as busy as if it were let in."""
        looked_at = []
        monkeypatch.setattr(services, "split_request", looked_at.append)
        with served(HoldPolicy(), max_calls_per_s=0.001) as (_, caller):
            caller.reset(seed=0)
            _, _, detail = refusal(lambda: caller.step(make_observation()))
        assert detail.reason == "rate_limit"
        assert looked_at == []

    def test_a_step_that_cannot_be_in_time_is_refused_not_computed(self, make_observation) -> None:
        policy = GatedPolicy(HoldPolicy())
        with served(policy, max_batch_size=1) as (server, caller):
            caller.reset(seed=0)
            slow = caller.begin_step(make_observation())
            assert policy.next_batch_size() == 1
            hasty = Caller(server.address)
            hasty.reset(seed=0)
            for timeout_s in (0.2, 2, 20):
                # On a busy machine its time may be up before it has begun to wait.
                late = hasty.begin_step(make_observation(), timeout_s=timeout_s)
                server.wait_until(lambda running, it=late: it.done() or running.num_waiting == 1)
                if not late.done():
                    break
            assert late.code() == grpc.StatusCode.DEADLINE_EXCEEDED
            server.wait_until(lambda running: running.num_waiting == 0)
            policy.let_go()
            assert slow.result().success
            server.wait_until(lambda running: running.metrics.num_plans == 1)
            hasty.channel.close()
