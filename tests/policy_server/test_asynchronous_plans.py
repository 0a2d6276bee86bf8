"""Plans that are made while the last one is executed."""

from __future__ import annotations

import grpc
import numpy as np

from policy_interface.codec import decode_action
from policy_server.testing import GatedPolicy, GuidedNoisePolicy, NoisePolicy
from tests.policy_server.caller import numbers, refusal, served


class TestAsynchronousPlans:
    def test_the_step_that_starts_a_plan_does_not_wait_for_it(self, make_observation) -> None:
        policy = GatedPolicy(NoisePolicy(chunk_length=6))
        options = {"open_loop_steps": 3, "planned_latency_steps": 2}
        with served(policy, **options) as (server, caller):
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
        with served(policy, open_loop_steps=3, planned_latency_steps=2) as (_, caller):
            caller.reset(seed=9)
            got = [caller.step(observation).action for _ in range(10)]
        for action, planned in zip(got, expected, strict=True):
            decoded = decode_action(action)
            assert all(
                np.array_equal(decoded.poses[arm].matrix(), pose.matrix())
                for arm, pose in planned.poses.items()
            )

    def test_who_waited_for_no_plan_is_not_counted_as_having_waited(self, make_observation) -> None:
        options = {"open_loop_steps": 3, "planned_latency_steps": 2}
        with served(NoisePolicy(chunk_length=6), **options) as (server, caller):
            caller.reset(seed=1)
            for step in range(9):
                caller.step(make_observation())
                # The plan of step 3 is there before step 5 needs it, and that of step 6 before 8.
                num_plans = 1 + step // 3
                server.wait_until(lambda running, n=num_plans: running.metrics.num_plans == n)
            server.wait_until(lambda running: running.metrics.num_steps == 9)
            metrics = server.server.metrics
            assert metrics.num_late_plans == 0
            assert metrics.planning.count == metrics.phase("inference").count == 1
            assert metrics.cached.count == 8

    def test_an_episode_that_ends_under_a_step_that_waits_for_a_plan(
        self, make_observation
    ) -> None:
        policy = GatedPolicy(NoisePolicy(chunk_length=4))
        options = {"open_loop_steps": 2, "planned_latency_steps": 1}
        with served(policy, **options) as (server, caller):
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

        with served(OnceFailing(chunk_length=4), open_loop_steps=2, planned_latency_steps=1) as (
            _,
            caller,
        ):
            caller.reset(seed=0)
            for _ in range(3):
                caller.step(make_observation())
            code, text, detail = refusal(lambda: caller.step(make_observation()))
            assert code == grpc.StatusCode.INTERNAL
            assert "ZeroDivisionError: once" in text
            assert detail.reason == "policy_failed"
            assert caller.step(make_observation()).success

    def test_real_time_chunking_tells_the_policy_what_is_executed_meanwhile(
        self, make_observation
    ) -> None:
        policy = GuidedNoisePolicy(chunk_length=6)
        options = {"execution": "rtc", "open_loop_steps": 3, "planned_latency_steps": 2}
        with served(policy, **options) as (_, caller):
            caller.reset(seed=0)
            actions = [caller.step(make_observation()).action for _ in range(5)]
            caller.step(make_observation())
        (guidance,) = [each for each in policy.guidance if each is not None]
        assert guidance.num_frozen == 2
        assert len(guidance.actions) == 3
        for executed, frozen in zip(actions[3:], guidance.actions[:2], strict=True):
            assert np.array_equal(
                numbers(executed),
                np.concatenate([pose.matrix().ravel() for _, pose in sorted(frozen.poses.items())]),
            )

    def test_an_ensemble_replans_at_every_step(self, make_observation) -> None:
        policy = NoisePolicy(chunk_length=4)
        with served(policy, execution="ensemble") as (server, caller):
            caller.reset(seed=0)
            for _ in range(6):
                caller.step(make_observation())
            assert server.server.metrics.num_plans == 6
