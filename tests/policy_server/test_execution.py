"""Which chunk holds at which control step, for each way of executing chunks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.types import Action, Pose
from policy_server.execution import Chunk, ChunkExecutor, Execution, mean_action
from policy_server.policy import InvalidPolicyError
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import NoisePolicy


def _action(width_m: float) -> Action:
    return Action(poses={}, gripper_widths_m={"g": width_m})


def _chunk(start: int, length: int) -> Chunk:
    """Each action says which plan it is of, and for which control step."""
    return Chunk(start=start, actions=[_action(1000 * start + start + k) for k in range(length)])


def _execution(strategy: str, execute: int, latency: int, length: int) -> Execution:
    return Execution.resolve(
        NoisePolicy(chunk_length=length),
        strategy=strategy,
        num_execute_steps=execute,
        planned_latency_steps=latency,
    )


@st.composite
def schedules(draw) -> tuple[int, int, int]:
    length = draw(st.integers(1, 12))
    execute = draw(st.integers(1, length))
    latency = draw(st.integers(0, min(execute, length - execute)))
    return length, execute, latency


@given(schedules())
def test_plans_start_every_so_many_steps_and_take_effect_when_planned(schedule) -> None:
    length, execute, latency = schedule
    chunks = ChunkExecutor(_execution("receding", execute, latency, length))
    pending: int | None = None
    for step in range(40):
        if pending is not None and step >= chunks.takes_effect(pending):
            chunks.add(_chunk(pending, length))
            pending = None
        if chunks.is_plan_due(step):
            assert step % execute == 0
            pending = step
            chunks.note_start(step)
            if step >= chunks.takes_effect(step):
                chunks.add(_chunk(step, length))
                pending = None
        start = max((step - latency) // execute, 0) * execute
        assert chunks.action(step).gripper_widths_m["g"] == 1000 * start + step
        chunks.forget_before(step)


def test_a_guided_plan_is_told_what_goes_on_meanwhile() -> None:
    execution = Execution(strategy="rtc", num_execute_steps=4, planned_latency_steps=2)
    chunks = ChunkExecutor(execution)
    assert chunks.guidance(0) is None
    chunks.note_start(0)
    chunks.add(_chunk(0, 8))
    guidance = chunks.guidance(4)
    assert guidance is not None
    assert [each.gripper_widths_m["g"] for each in guidance.actions] == [4, 5, 6, 7]
    assert guidance.num_frozen == 2
    # A robot that was away for longer than its chunk has nothing to agree with.
    assert chunks.guidance(8) is None


def test_only_real_time_chunking_guides() -> None:
    chunks = ChunkExecutor(_execution("receding", 4, 2, 8))
    chunks.add(_chunk(0, 8))
    assert chunks.guidance(4) is None


def test_an_ensemble_averages_what_reaches_the_step_the_oldest_weighing_most() -> None:
    chunks = ChunkExecutor(_execution("ensemble", 1, 0, 3))
    weights = np.exp(-0.01 * np.arange(3))
    for step in range(6):
        chunks.note_start(step)
        chunks.add(_chunk(step, 3))
        reaching = list(range(max(step - 2, 0), step + 1))
        expected = np.average(
            [1000 * start + step for start in reaching], weights=weights[: len(reaching)]
        )
        assert chunks.action(step).gripper_widths_m["g"] == pytest.approx(expected)
        chunks.forget_before(step)


def _turned(angle_rad: float) -> Pose:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return Pose(
        rotation=[[cos, -sin, 0], [sin, cos, 0], [0, 0, 1]], translation_m=[angle_rad, 0, 1]
    )


@given(st.lists(st.floats(-1.5, 1.5), min_size=1, max_size=6))
def test_the_mean_of_turns_about_one_axis_is_such_a_turn(angles_rad) -> None:
    mean = mean_action(
        [Action(poses={"a": _turned(angle)}, gripper_widths_m={}) for angle in angles_rad]
    ).poses["a"]
    weights = np.exp(-0.01 * np.arange(len(angles_rad)))
    sine = np.average(np.sin(angles_rad), weights=weights)
    cosine = np.average(np.cos(angles_rad), weights=weights)
    expected = _turned(float(np.arctan2(sine, cosine)))
    np.testing.assert_allclose(mean.rotation, expected.rotation, atol=1e-9)
    assert mean.translation_m[0] == pytest.approx(np.average(angles_rad, weights=weights))


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"num_execute_steps": 9}, "expected 1 to 8"),
        ({"num_execute_steps": 0}, "expected 1 to 8"),
        ({"num_execute_steps": 6, "planned_latency_steps": 3}, "expected 0 to 2 steps"),
        ({"num_execute_steps": 2, "planned_latency_steps": 3}, "expected 0 to 2 steps"),
        ({"planned_latency_steps": -1}, "planned latency"),
    ],
)
def test_an_execution_that_the_chunks_do_not_allow_is_refused(options, complaint) -> None:
    with pytest.raises(InvalidPolicyError, match=complaint):
        Execution.resolve(NoisePolicy(chunk_length=8), **options)


def test_real_time_chunking_needs_a_policy_that_can_be_guided() -> None:
    with pytest.raises(InvalidPolicyError, match="HoldPolicy has no plan_guided"):
        Execution.resolve(HoldPolicy(), strategy="rtc")


def test_what_is_not_chosen_follows_from_the_policy() -> None:
    policy = NoisePolicy(chunk_length=8, open_loop_steps=8)
    assert Execution.resolve(policy).num_execute_steps == 8
    assert Execution.resolve(policy, planned_latency_steps=2).num_execute_steps == 6
    assert Execution.resolve(policy, strategy="ensemble").num_execute_steps == 1
