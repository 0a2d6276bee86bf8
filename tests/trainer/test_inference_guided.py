"""Real-time chunking: plans that agree with the chunk that is being executed.

With the shipped checkpoint, whose plans for other images differ by centimetres.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.contract import (
    LEFT_ARM,
    LEFT_GRIPPER,
    RIGHT_ARM,
    RIGHT_GRIPPER,
    ContractError,
)
from policy_interface.types import (
    Action,
    CameraView,
    ChunkGuidance,
    Observation,
    Pose,
    RobotState,
)
from trainer.inference import Policy
from trainer.models.guided_flow import soft_mask
from trainer.policy_loading import load_policy

_SHIPPED = Path(__file__).parents[2] / "docker" / "quickstart-checkpoint"

# Of 16 steps a chunk: one is planned after 8, and takes effect 3 later.
_EXECUTED, _LATE = 8, 3


@pytest.fixture(scope="module")
def policy() -> Policy:
    return load_policy(_SHIPPED)


def observation(policy: Policy, seed: int, state: RobotState | None = None) -> Observation:
    """Of a scene that the seed gives; the hands are where the demonstrations' were."""
    rng = np.random.default_rng(seed)
    if state is None:
        down = np.diag([1.0, -1.0, -1.0])
        state = RobotState(
            poses={
                arm: Pose(rotation=down, translation_m=middle + rng.uniform(-0.05, 0.05, 3))
                for arm, middle in ((RIGHT_ARM, [0, -0.2, 0.3]), (LEFT_ARM, [0, 0.4, 0.3]))
            },
            gripper_widths_m={RIGHT_GRIPPER: 0.08, LEFT_GRIPPER: 0.08},
        )
    return Observation(
        actual=state,
        desired=state,
        cameras={
            name: CameraView(
                rgb=np.kron(
                    rng.integers(0, 256, (6, 6, 3), dtype=np.uint8),
                    np.ones((size.height // 6, size.width // 6, 1), np.uint8),
                ),
                intrinsics=np.eye(3),
                X_TC=Pose.identity(),
            )
            for name, size in policy.contract.cameras.items()
        },
    )


def positions_m(actions: Sequence[Action]) -> np.ndarray:
    return np.array([action.poses[RIGHT_ARM].translation_m for action in actions])


def numbers(actions: Sequence[Action]) -> np.ndarray:
    return np.array(
        [
            [
                *(n for arm in (RIGHT_ARM, LEFT_ARM) for n in action.poses[arm].matrix().ravel()),
                *action.gripper_widths_m.values(),
            ]
            for action in actions
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Replanned:
    """A chunk, and what comes of planning again eight steps later for another scene."""

    newer: Observation
    old: Sequence[Action]
    free: list[Action]
    guided: list[Action]


@pytest.fixture(scope="module")
def replanned(policy: Policy) -> list[Replanned]:
    seeds = range(8)
    olds = policy.plan([[observation(policy, seed)] for seed in seeds], list(seeds))
    newer = [
        observation(
            policy,
            100 + seed,
            # The hands have followed the chunk so far.
            RobotState(
                poses=old[_EXECUTED - 1].poses,
                gripper_widths_m=old[_EXECUTED - 1].gripper_widths_m,
            ),
        )
        for seed, old in zip(seeds, olds, strict=True)
    ]
    noise = [1000 + seed for seed in seeds]
    guidance = [ChunkGuidance(actions=old[_EXECUTED:], num_frozen=_LATE) for old in olds]
    histories = [[each] for each in newer]
    return [
        Replanned(newer=new, old=old[_EXECUTED:], free=free, guided=guided)
        for new, old, free, guided in zip(
            newer,
            olds,
            policy.plan(histories, noise),
            policy.plan_guided(histories, noise, guidance),
            strict=True,
        )
    ]


def test_frozen_steps_are_those_that_will_be_executed(replanned: list[Replanned]) -> None:
    for each in replanned:
        frozen = numbers(each.old[:_LATE])
        np.testing.assert_allclose(numbers(each.guided[:_LATE]), frozen, atol=1e-5)
        assert np.abs(numbers(each.free[:_LATE]) - frozen).max() > 1e-2


def test_the_hand_goes_on_where_the_frozen_steps_end(replanned: list[Replanned]) -> None:
    def jumps_m(chunks: list[list[Action]]) -> np.ndarray:
        return np.array(
            [
                np.linalg.norm(
                    positions_m(chunk)[_LATE] - positions_m(each.old)[_LATE - 1], axis=-1
                )
                for each, chunk in zip(replanned, chunks, strict=True)
            ]
        )

    guided = jumps_m([each.guided for each in replanned])
    free = jumps_m([each.free for each in replanned])
    assert guided.mean() < 0.5 * free.mean()


def test_guidance_fades_over_the_overlap(replanned: list[Replanned]) -> None:
    def apart(chunks: list[list[Action]]) -> np.ndarray:
        return np.mean(
            [
                np.linalg.norm(positions_m(chunk)[: len(each.old)] - positions_m(each.old), axis=-1)
                for each, chunk in zip(replanned, chunks, strict=True)
            ],
            axis=0,
        )

    share = apart([each.guided for each in replanned]) / apart([each.free for each in replanned])
    assert share[_LATE] < 0.6
    assert share[-1] > share[_LATE]
    # Beyond the overlap the new scene has its say.
    assert all(np.abs(numbers(e.guided)[-1] - numbers(e.old)[-1]).max() > 1e-3 for e in replanned)


def test_guidance_by_ones_own_plan_changes_little(policy: Policy) -> None:
    seeds = range(4)
    histories = [[observation(policy, seed)] for seed in seeds]
    own = policy.plan(histories, list(seeds))
    other = policy.plan(histories, [10 + seed for seed in seeds])
    guidance = [ChunkGuidance(actions=chunk, num_frozen=_LATE) for chunk in own]
    again = policy.plan_guided(histories, list(seeds), guidance)
    changed = np.abs(np.array([numbers(a) - numbers(b) for a, b in zip(again, own, strict=True)]))
    drawn = np.abs(np.array([numbers(a) - numbers(b) for a, b in zip(other, own, strict=True)]))
    assert changed.mean() < 0.25 * drawn.mean()


def test_guiding_actions_are_absolute(policy: Policy, replanned: list[Replanned]) -> None:
    # The same old chunk, seen from a hand elsewhere, is still met where it is.
    old = replanned[0].old
    here = replanned[0].newer
    moved = {
        arm: Pose(rotation=pose.rotation, translation_m=pose.translation_m + 0.03)
        for arm, pose in here.actual.poses.items()
    }
    there = observation(
        policy, 3, RobotState(poses=moved, gripper_widths_m=here.actual.gripper_widths_m)
    )
    (chunk,) = policy.plan_guided([[there]], [0], [ChunkGuidance(actions=old, num_frozen=2)])
    np.testing.assert_allclose(numbers(chunk[:2]), numbers(old[:2]), atol=1e-5)


def test_without_guidance_it_is_the_plan(policy: Policy, replanned: list[Replanned]) -> None:
    histories = [[each.newer] for each in replanned[:3]]
    plain = policy.plan(histories, [1, 2, 3])
    some = ChunkGuidance(actions=replanned[1].old, num_frozen=2)
    nothing = ChunkGuidance(actions=[], num_frozen=0)
    mixed = policy.plan_guided(histories, [1, 2, 3], [None, some, nothing])
    for index in (0, 2):
        np.testing.assert_array_equal(numbers(mixed[index]), numbers(plain[index]))
    assert np.abs(numbers(mixed[1]) - numbers(plain[1])).max() > 1e-3


def test_a_longer_chunk_guides_as_far_as_the_plan_goes(
    policy: Policy, replanned: list[Replanned]
) -> None:
    old = [*replanned[0].old, *replanned[0].old, *replanned[0].old]
    guidance = [ChunkGuidance(actions=old, num_frozen=len(old))]
    (chunk,) = policy.plan_guided([[replanned[0].newer]], [0], guidance)
    np.testing.assert_allclose(numbers(chunk), numbers(old[: policy.chunk_length]), atol=1e-5)


def test_a_guiding_action_that_breaks_the_contract_is_refused(
    policy: Policy, replanned: list[Replanned]
) -> None:
    whole = replanned[0].old[0]
    lame = Action(
        poses={RIGHT_ARM: whole.poses[RIGHT_ARM]}, gripper_widths_m=whole.gripper_widths_m
    )
    guidance = ChunkGuidance(actions=[whole, lame], num_frozen=1)
    with pytest.raises(ContractError, match=r"request 0: guidance, step 1: arm 'left::panda'"):
        policy.plan_guided([[replanned[0].newer]], [0], [guidance])
    with pytest.raises(ValueError, match="expected 1 guidances"):
        policy.plan_guided([[replanned[0].newer]], [0], [])


@pytest.mark.parametrize("num_flow_steps", [1, 2, 5, 20])
def test_any_number_of_flow_steps_keeps_what_is_frozen(
    policy: Policy, replanned: list[Replanned], num_flow_steps: int
) -> None:
    coarse = replace(policy, num_flow_steps=num_flow_steps, batch_invariant=False)
    guidance = ChunkGuidance(actions=replanned[0].old, num_frozen=_LATE)
    (chunk,) = coarse.plan_guided([[replanned[0].newer]], [0], [guidance])
    frozen = numbers(replanned[0].old[:_LATE])
    np.testing.assert_allclose(numbers(chunk[:_LATE]), frozen, atol=1e-5)
    assert np.abs(positions_m(chunk)).max() < 2


def test_planning_leaves_no_gradient_behind(policy: Policy) -> None:
    assert not any(p.requires_grad or p.grad is not None for p in policy.network.parameters())
    assert torch.is_grad_enabled()


@given(st.integers(1, 64), st.data())
def test_the_mask_is_one_then_falls_then_nothing(chunk_length: int, data: st.DataObject) -> None:
    num_known = data.draw(st.integers(1, chunk_length))
    num_frozen = data.draw(st.integers(0, num_known))
    weights = soft_mask(num_frozen=num_frozen, num_known=num_known, chunk_length=chunk_length)
    assert weights.shape == (chunk_length,)
    assert (weights[:num_frozen] == 1).all()
    assert (weights[num_known:] == 0).all()
    overlap = weights[num_frozen:num_known]
    assert ((overlap > 0) & (overlap < 1)).all()
    assert (np.diff(weights) <= 0).all()


def test_the_mask_is_the_papers() -> None:
    # Equation 5 of arXiv:2506.07339 with a prediction horizon of 8, a delay of 2 and an execution
    # horizon of 3: c = 3/4, 2/4, 1/4 at the steps 2, 3 and 4.
    expected = [1, 1, *(c * (np.e**c - 1) / (np.e - 1) for c in (0.75, 0.5, 0.25)), 0, 0, 0]
    np.testing.assert_allclose(soft_mask(num_frozen=2, num_known=5, chunk_length=8), expected)
