"""Several clients at one policy: what is planned together, and whom a failure reaches."""

from __future__ import annotations

import asyncio
import dataclasses
import types
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import grpc
import numpy as np
import pytest

from policy_interface.client import PolicyClient, PolicyServerRefusedError
from policy_interface.codec import decode_action, encode_observation
from policy_interface.contract import RIGHT_ARM
from policy_interface.types import Action, Observation
from policy_server import batching
from policy_server.batching import Batcher, Plan, PlanRequest, Replica
from policy_server.policy import Policy
from policy_server.server import ServerOptions
from policy_server.testing import GatedPolicy, NoisePolicy, running_server


class UnreadableChunk(Sequence[Any]):
    """A chunk that is computed when it is looked at, and fails then."""

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: Any) -> Any:
        raise LookupError("computed too late")


class FaultyPolicy(NoisePolicy):
    """Does what the instruction says to one episode of the batch, or to all of them."""

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        chunks = super().plan(histories, noise)
        for index, history in enumerate(histories):
            match history[-1].language_instruction:
                case "raise":
                    raise ZeroDivisionError("the arm is\nnot there")
                case "exit":
                    raise SystemExit(3)
                case "nan":
                    pose = chunks[index][0].poses[RIGHT_ARM]
                    pose.__class__(rotation=pose.rotation, translation_m=[np.nan] * 3)  # type: ignore[arg-type]
                case "no arm":
                    action = chunks[index][0]
                    chunks[index][0] = Action(
                        poses={RIGHT_ARM: action.poses[RIGHT_ARM]},
                        gripper_widths_m=action.gripper_widths_m,
                    )
                case "short":
                    chunks[index] = chunks[index][:1]
                case "text":
                    chunks[index] = ["up"] * 4  # type: ignore[list-item]
                case "none":
                    chunks[index] = None  # type: ignore[call-overload]
                case "unreadable":
                    chunks[index] = UnreadableChunk()  # type: ignore[call-overload]
                case "lose":
                    return chunks[:-1]
        return chunks


def test_what_waits_during_a_forward_pass_makes_the_next_one_first_come_first_served(
    make_observation, wire
) -> None:
    policy = GatedPolicy(NoisePolicy(chunk_length=1))
    options = ServerOptions(address="127.0.0.1:0", max_batch_size=4)
    with running_server(policy, options) as server:
        clients = [wire(server.address) for _ in range(7)]
        for seed, client in enumerate(clients):
            client.reset(seed=seed)
        calls = [clients[0].begin_step(make_observation())]
        # Alone, and at once: nobody waits for company.
        assert policy.next_batch_size() == 1
        for num_waiting, client in enumerate(clients[1:], start=1):
            calls.append(client.begin_step(make_observation()))
            server.wait_until(lambda running, n=num_waiting: running.num_waiting == n)
        policy.let_go()
        calls[0].result()
        assert policy.next_batch_size() == 4
        policy.let_go()
        for call in calls[1:5]:
            call.result()
        assert not any(call.done() for call in calls[5:])
        assert policy.next_batch_size() == 2
        policy.let_go()
        for call in calls[5:]:
            call.result()
        for client in clients:
            client.__exit__(None, None, None)
        assert server.server.metrics.num_plans == 7
        assert server.server.metrics.num_batches == 3


def test_each_replica_makes_a_forward_pass_at_a_time(make_observation, wire) -> None:
    policy = GatedPolicy(NoisePolicy(chunk_length=1))
    options = ServerOptions(address="127.0.0.1:0", replicas=2)
    with running_server(policy, options) as server:
        clients = [wire(server.address) for _ in range(4)]
        for seed, client in enumerate(clients):
            client.reset(seed=seed)
        calls = []
        for client in clients[:2]:
            calls.append(client.begin_step(make_observation()))
            assert policy.next_batch_size() == 1
        calls += [client.begin_step(make_observation()) for client in clients[2:]]
        server.wait_until(lambda running: running.num_waiting == 2)
        policy.let_go()
        # One replica is free, and both who wait share it.
        assert policy.next_batch_size() == 2
        policy.let_go(2)
        answers = [call.result() for call in calls]
        with PolicyClient(server.address) as client:
            assert client.metadata().runtime_information["assay.replicas"] == "2"
        for client in clients:
            client.__exit__(None, None, None)
    with running_server(NoisePolicy(chunk_length=1)) as server:
        for seed, answer in enumerate(answers):
            with wire(server.address) as client:
                client.reset(seed=seed)
                again = client.begin_step(make_observation()).result()
            assert again.action == answer.action


def test_a_step_inside_a_chunk_waits_for_no_forward_pass(make_observation, wire) -> None:
    policy = GatedPolicy(NoisePolicy(chunk_length=3))
    with (
        running_server(policy) as server,
        wire(server.address) as one,
        wire(server.address) as other,
    ):
        one.reset(seed=0)
        policy.let_go()
        one.begin_step(make_observation()).result()
        assert policy.next_batch_size() == 1
        other.reset(seed=0)
        blocked = other.begin_step(make_observation())
        assert policy.next_batch_size() == 1
        one.begin_step(make_observation()).result()
        one.begin_step(make_observation()).result()
        with PolicyClient(server.address) as third:
            third.wait_until_serving(timeout_s=30)
            assert third.metadata().name == "noise"
        assert not blocked.done()
        policy.let_go()
        blocked.result()


def test_images_are_decoded_while_a_forward_pass_runs(make_observation, wire) -> None:
    policy = GatedPolicy(NoisePolicy(chunk_length=1))
    with (
        running_server(policy) as server,
        wire(server.address) as one,
        wire(server.address) as other,
    ):
        one.reset(seed=0)
        other.reset(seed=0)
        first = one.begin_step(make_observation())
        assert policy.next_batch_size() == 1
        second = other.begin_step(encode_observation(make_observation(), encoding="jpeg"))
        # Who waits has been decoded: what can't be is refused here, and no pass is spent on it.
        server.wait_until(lambda running: running.num_waiting == 1)
        with wire(server.address) as third:
            third.reset(seed=0)
            corrupt = encode_observation(make_observation(), encoding="jpeg")
            corrupt.visuo[0].camera_rgb.image.data = b"no picture"
            refused = third.begin_step(corrupt)
            assert refused.code() == grpc.StatusCode.INVALID_ARGUMENT
        assert not first.done()
        policy.let_go(2)
        first.result()
        second.result()


def test_a_client_that_goes_away_leaves_the_queue(make_observation, wire) -> None:
    policy = GatedPolicy(NoisePolicy(chunk_length=1))
    with running_server(policy) as server:
        clients = [wire(server.address) for _ in range(4)]
        for client in clients:
            client.reset(seed=0)
        calls = [clients[0].begin_step(make_observation())]
        assert policy.next_batch_size() == 1
        calls += [client.begin_step(make_observation()) for client in clients[1:]]
        server.wait_until(lambda running: running.num_waiting == 3)
        calls[2].cancel()
        server.wait_until(lambda running: running.num_waiting == 2)
        policy.let_go(2)
        assert policy.next_batch_size() == 2
        for index in (0, 1, 3):
            calls[index].result()
        for client in clients:
            client.__exit__(None, None, None)


def test_a_second_step_of_one_session_is_refused_and_disturbs_nothing(
    make_observation, wire
) -> None:
    policy = GatedPolicy(NoisePolicy(chunk_length=1))
    with running_server(policy) as server, wire(server.address) as client:
        client.reset(seed=0)
        first = client.begin_step(make_observation())
        assert policy.next_batch_size() == 1
        second = client.begin_step(make_observation())
        assert second.code() == grpc.StatusCode.ABORTED
        assert "one step at a time" in second.details()
        policy.let_go()
        assert first.result().success


def test_a_reset_overtakes_the_step_under_way(make_observation, wire) -> None:
    observation = make_observation()
    inner = NoisePolicy(chunk_length=1)
    policy = GatedPolicy(inner)
    with running_server(policy) as server, wire(server.address) as client:
        client.reset(seed=0)
        overtaken = client.begin_step(observation)
        assert policy.next_batch_size() == 1
        client.reset(seed=8)
        policy.let_go(2)
        assert overtaken.code() == grpc.StatusCode.ABORTED
        got = decode_action(client.begin_step(observation).result().action)
    (expected,) = inner.plan([[observation]], [np.random.default_rng(8)])
    np.testing.assert_array_equal(
        got.poses[RIGHT_ARM].matrix(), expected[0].poses[RIGHT_ARM].matrix()
    )


@pytest.mark.parametrize(
    ("instruction", "detail"),
    [
        ("raise", "the policy failed: ZeroDivisionError: the arm is not there"),
        ("exit", "the policy failed: SystemExit: 3"),
        ("nan", "the policy failed: InvalidValueError: translation_m: expected finite numbers"),
        ("no arm", "action 0: arm 'left::panda' missing in the action"),
        ("short", "expected at least 4 actions, got 1"),
        ("text", "action 0: expected an Action, got 'up'"),
        ("none", "expected a sequence of actions, got None"),
        ("unreadable", "the policy failed: LookupError: computed too late"),
        ("lose", "expected a chunk for each of 1 episodes, got 0"),
    ],
)
def test_a_failure_reaches_its_own_episode_alone(
    make_observation, wire, instruction, detail
) -> None:
    inner = FaultyPolicy(chunk_length=4)
    policy = GatedPolicy(inner)
    seeds = range(5)
    with running_server(policy) as server:
        clients = [wire(server.address) for _ in seeds]
        for seed, client in zip(seeds, clients, strict=True):
            client.reset(seed=seed)
        policy.let_go(100)
        faulty = make_observation(0, instruction=instruction)
        calls = [
            client.begin_step(faulty if seed == 2 else make_observation(seed))
            for seed, client in zip(seeds, clients, strict=True)
        ]
        assert calls[2].code() == grpc.StatusCode.INTERNAL
        assert detail in calls[2].details()
        for seed, call in zip(seeds, calls, strict=True):
            if seed == 2:
                continue
            got = decode_action(call.result().action)
            (chunk,) = inner.plan([[make_observation(seed)]], [np.random.default_rng(seed)])
            np.testing.assert_array_equal(
                got.poses[RIGHT_ARM].matrix(), chunk[0].poses[RIGHT_ARM].matrix()
            )
        # The episode itself may go on once its observations are good again.
        assert clients[2].begin_step(make_observation(2)).result().success
        for client in clients:
            client.__exit__(None, None, None)


def test_a_failure_inside_a_shared_batch_leaves_its_mates_their_own_noise(
    make_observation, wire
) -> None:
    inner = FaultyPolicy(chunk_length=1)
    policy = GatedPolicy(inner)
    with running_server(policy) as server:
        clients = [wire(server.address) for _ in range(4)]
        for seed, client in enumerate(clients):
            client.reset(seed=seed)
        calls = [clients[0].begin_step(make_observation())]
        assert policy.next_batch_size() == 1
        for client, instruction in zip(clients[1:], (None, "raise", None), strict=True):
            calls.append(client.begin_step(make_observation(instruction=instruction)))
        server.wait_until(lambda running: running.num_waiting == 3)
        policy.let_go(10)
        assert [policy.next_batch_size() for _ in range(4)] == [3, 1, 1, 1]
        assert calls[2].code() == grpc.StatusCode.INTERNAL
        for seed in (0, 1, 3):
            got = decode_action(calls[seed].result().action)
            (chunk,) = inner.plan([[make_observation()]], [np.random.default_rng(seed)])
            np.testing.assert_array_equal(
                got.poses[RIGHT_ARM].matrix(), chunk[0].poses[RIGHT_ARM].matrix()
            )
        for client in clients:
            client.__exit__(None, None, None)


class TimedPolicy(FaultyPolicy):
    """Each of its forward passes takes a second of a clock of its own."""

    now_s = 0.0

    def plan(
        self,
        histories: Sequence[Sequence[Observation]],
        noise: Sequence[np.random.Generator],
    ) -> list[list[Action]]:
        self.now_s += 1.0
        return super().plan(histories, noise)


async def _planned_after_a_fallback(
    policy: Policy, observation: Observation, *, timeout_s: float
) -> Plan:
    """A plan that is due in so many seconds, after a batch that was planned one by one."""
    with ThreadPoolExecutor(1) as worker:
        batcher = Batcher(
            [Replica(policy=policy, worker=worker)],
            min_actions=1,
            max_batch_size=8,
            max_wait_s=0.0,
            max_waiting=8,
            on_batch=lambda size, duration_s: None,
        )
        good = PlanRequest(history=[observation], seed=(0, 0))
        faulty = PlanRequest(
            history=[dataclasses.replace(observation, language_instruction="raise")], seed=(0, 0)
        )
        # The first goes alone, and the others together.
        requests = [good, *[faulty] * 3]
        plans = [asyncio.ensure_future(batcher.plan(request)) for request in requests]
        await asyncio.wait(plans)
        assert [plan.exception() is None for plan in plans] == [True, False, False, False]
        return await batcher.plan(good, timeout_s=timeout_s)


def test_a_batch_that_was_planned_one_by_one_is_no_slow_pass(make_observation, monkeypatch) -> None:
    policy = TimedPolicy(chunk_length=1)
    clock = types.SimpleNamespace(perf_counter=lambda: policy.now_s)
    monkeypatch.setattr(batching, "time", clock)
    planned = _planned_after_a_fallback(policy, make_observation(), timeout_s=1.5)
    assert len(asyncio.run(planned).actions) == 1


def test_the_traceback_stays_in_the_log(make_observation, caplog) -> None:
    policy = FaultyPolicy(chunk_length=4)
    with running_server(policy) as server, PolicyClient(server.address) as client:
        client.reset(seed=0)
        with pytest.raises(PolicyServerRefusedError) as refusal:
            client.step(make_observation(instruction="raise"))
    assert "Traceback" not in str(refusal.value)
    assert "\n" not in str(refusal.value)
    assert "Traceback" in caplog.text
    assert "in plan" in caplog.text
