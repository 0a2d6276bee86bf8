"""Same observations, noise and guidance, same actions, bit for bit, whatever else is planned.

With the shipped checkpoints, whose networks are those that people serve.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_interface.types import Action, ChunkGuidance, Observation
from trainer.inference import Policy
from trainer.policy_loading import load_policy

_SHIPPED = Path(__file__).parents[2] / "docker" / "quickstart-checkpoint"
_SHIPPED_FOR_ALL_TASKS = _SHIPPED.with_name("all-tasks-checkpoint")
_NUM_EPISODES = 18


def bits(chunk: list[Action]) -> bytes:
    return b"".join(
        np.array([pose.matrix() for pose in action.poses.values()]).tobytes()
        + np.array(list(action.gripper_widths_m.values())).tobytes()
        for action in chunk
    )


@pytest.fixture(
    scope="module", params=["float32", pytest.param("bfloat16", marks=pytest.mark.slow)]
)
def policy(request: pytest.FixtureRequest) -> Policy:
    return load_policy(_SHIPPED, precision=request.param, num_flow_steps=2)


@pytest.fixture(scope="module")
def histories(
    policy: Policy, make_observation: Callable[..., Observation]
) -> list[list[Observation]]:
    cameras = dict(policy.contract.cameras)
    return [[make_observation(seed, cameras=cameras)] for seed in range(_NUM_EPISODES)]


@pytest.fixture(scope="module")
def guidance(policy: Policy, histories: list[list[Observation]]) -> list[ChunkGuidance | None]:
    """For two of three episodes, each of another length."""
    chunks = policy.plan(histories, [99] * _NUM_EPISODES)
    return [
        None
        if index % 3 == 0
        else ChunkGuidance(actions=chunk[index % 7 :], num_frozen=1 + index % 4)
        for index, chunk in enumerate(chunks)
    ]


def test_on_a_cpu_it_is_the_default(policy: Policy) -> None:
    assert policy.batch_invariant
    assert not load_policy(_SHIPPED, batch_invariant=False).batch_invariant


def test_mates_order_and_batch_size_change_no_bit(
    policy: Policy,
    histories: list[list[Observation]],
    guidance: list[ChunkGuidance | None],
) -> None:
    generator = np.random.default_rng(0)
    alone = [bits(policy.plan([histories[i]], [i])[0]) for i in range(_NUM_EPISODES)]
    guided_alone = [
        bits(policy.plan_guided([histories[i]], [i], [guidance[i]])[0])
        for i in range(_NUM_EPISODES)
    ]
    assert len(set(alone)) == len(set(guided_alone)) == _NUM_EPISODES
    for size in (2, 3, 4, 7, 11, 17):
        rows = generator.permutation(_NUM_EPISODES)[:size].tolist()
        chosen, noise = [histories[i] for i in rows], list(rows)
        assert [bits(chunk) for chunk in policy.plan(chosen, noise)] == [alone[i] for i in rows]
        chunks = policy.plan_guided(chosen, noise, [guidance[i] for i in rows])
        assert [bits(chunk) for chunk in chunks] == [guided_alone[i] for i in rows]
    # Without guidance there, guidance elsewhere in the batch changes nothing.
    for i, told in enumerate(guidance):
        assert (guided_alone[i] == alone[i]) == (told is None)


@pytest.mark.slow
def test_several_threads_change_no_bit_either(
    policy: Policy, histories: list[list[Observation]]
) -> None:
    # One flow step, because two threads on a busy machine spend most of their time waiting.
    short = replace(policy, num_flow_steps=1)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(2)
        alone = [bits(short.plan([histories[i]], [i])[0]) for i in range(3)]
        together = short.plan(histories[:3], list(range(3)))
        assert [bits(chunk) for chunk in together] == alone
    finally:
        torch.set_num_threads(threads)


def test_without_it_the_plans_are_the_same_to_within_rounding(
    policy: Policy, histories: list[list[Observation]]
) -> None:
    plain = replace(policy, batch_invariant=False)
    tolerance = 1e-4 if policy.precision == "float32" else 0.05
    exact, quick = (each.plan(histories[:6], list(range(6))) for each in (policy, plain))
    for one, other in zip(exact, quick, strict=True):
        for first, second in zip(one, other, strict=True):
            for arm, pose in first.poses.items():
                np.testing.assert_allclose(
                    pose.matrix(), second.poses[arm].matrix(), atol=tolerance
                )


def test_a_warm_policy_tries_nothing_out(
    policy: Policy, histories: list[list[Observation]], guidance: list[ChunkGuidance | None]
) -> None:
    passes = []
    hook = policy.network.head.register_forward_hook(lambda *_: passes.append(None))

    def passes_of(plan: Callable[[], object]) -> int:
        passes.clear()
        plan()
        return len(passes)

    try:
        cold = replace(policy)
        first, second = (passes_of(lambda: cold.plan(histories[:1], [0])) for _ in range(2))
        assert first > second >= policy.num_flow_steps
        warm = replace(policy)
        warm.warm_up((1, 3), guided=True)
        for plan in (
            lambda: warm.plan(histories[:3], [0, 1, 2]),
            lambda: warm.plan_guided(histories[1:3], [1, 2], guidance[1:3]),
        ):
            # How many passes three rows take depends on the processor: some add alike in batches
            # of many sizes, others want each row by itself.
            assert passes_of(plan) == passes_of(plan)
    finally:
        hook.remove()


def test_what_others_are_told_changes_no_bit(make_observation: Callable[..., Observation]) -> None:
    """Of a policy that is told what to do, by words of other lengths."""
    policy = load_policy(_SHIPPED_FOR_ALL_TASKS, precision="float32", num_flow_steps=2)
    cameras = dict(policy.contract.cameras)
    told = [
        "Pick up the box and place it in the bin.",
        "Put the mug on the saucer.",
        "Push the coaster to the center of the table.",
    ]
    histories = [
        [replace(make_observation(seed, cameras=cameras), language_instruction=told[seed % 3])]
        for seed in range(7)
    ]
    alone = [bits(policy.plan([each], [seed])[0]) for seed, each in enumerate(histories)]
    assert len(set(alone)) == len(alone)
    for rows in ([0, 1, 2], [6, 3, 5, 4, 0, 1, 2], [2, 5]):
        chunks = policy.plan([histories[i] for i in rows], rows)
        assert [bits(chunk) for chunk in chunks] == [alone[i] for i in rows]
    # The same picture and state, told otherwise: the words are read.
    otherwise = replace(histories[0][0], language_instruction=told[1])
    assert bits(policy.plan([[otherwise]], [0])[0]) != alone[0]
