"""Answers that are no actions: the policy's own fault, and its failure."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from policy_interface.types import Pose
from policy_server.testing import NoisePolicy, running_server
from sim_client.evaluation.action_log import load_action_log
from step_analysis.infrastructure import outcome_of_failure
from step_analysis.ledger import read_ledger
from step_analysis.rollouts import Outcome, RolloutRecord


def ledger_of(tmp_path: Path, policy: str = "hold") -> list[RolloutRecord]:
    return read_ledger(tmp_path / "rollouts" / policy / "ledger.jsonl")


def _nan(action: Any) -> None:
    action.pose_status[0].pose.translation[1] = math.nan


def _no_rotation(action: Any) -> None:
    action.pose_status[1].pose.rotation[0] = 7.0


def _no_gripper(action: Any) -> None:
    del action.gripper_status[0]


def _no_arm(action: Any) -> None:
    del action.pose_status[:]


def _short_translation(action: Any) -> None:
    del action.pose_status[0].pose.translation[2]


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (_nan, "finite numbers"),
        (_no_rotation, "rotation: expected an orthonormal, right-handed 3x3 matrix"),
        (_no_gripper, "gripper 'right::panda_hand' missing in the action"),
        (_no_arm, "arm 'right::panda' missing in the action"),
        (_short_translation, "expected 3 numbers of translation"),
    ],
)
def test_an_answer_that_is_no_action_is_a_failure_that_names_it(
    served: Any, evaluate: Any, tmp_path: Path, spoil: Callable[[Any], None], fault: str
) -> None:
    def change_answer(step: Any, action: Any) -> None:
        if step.scenario_index == 1 and step.number == 3:
            spoil(action)

    served.change_answer = change_answer
    assert evaluate("0:3") == 0
    records = {record.scenario_index: record for record in ledger_of(tmp_path)}
    assert [records[i].outcome for i in range(3)] == ["success", "failure", "success"]
    faulty = records[1]
    assert (faulty.attempt, faulty.num_control_steps) == (1, 2)
    assert "the policy's answer is no action" in (faulty.message or "")
    assert fault in (faulty.message or "")
    # Read by its message alone, as from a results.json, it stays the policy's.
    assert outcome_of_failure(faulty.message) is Outcome.FAILURE
    (path,) = (tmp_path / "rollouts").glob("**/demonstration_1/actions.npz")
    log = load_action_log(path)
    assert (len(log.actions), len(log.state_digests)) == (2, 3)


class MisplanningPolicy(NoisePolicy):
    """Of ours: its second plan is not one."""

    def __init__(self, spoil: Callable[[Any], Any]) -> None:
        super().__init__(chunk_length=2)
        self._spoil = spoil
        self._num_plans = 0

    def plan(self, histories: Any, noise: Any) -> Any:
        self._num_plans += 1
        chunks = super().plan(histories, noise)
        return [self._spoil(chunk) for chunk in chunks] if self._num_plans == 2 else chunks


@pytest.mark.parametrize(
    ("spoil", "fault"),
    [
        (lambda chunk: chunk[:1], "expected at least 2 actions, got 1"),
        (
            lambda chunk: [Pose(rotation=np.eye(3), translation_m=[math.nan] * 3)],
            "translation_m: expected finite numbers",
        ),
    ],
)
def test_a_plan_that_is_none_is_a_failure_too(
    evaluate: Any, tmp_path: Path, spoil: Callable[[Any], Any], fault: str
) -> None:
    with running_server(MisplanningPolicy(spoil)) as server:
        assert evaluate("0:2", address=server.address) == 0
    first, second = ledger_of(tmp_path, "noise")
    assert (first.outcome, first.num_control_steps) == (Outcome.FAILURE, 2)
    assert fault in (first.message or "")
    assert outcome_of_failure(first.message) is Outcome.FAILURE
    assert second.outcome is Outcome.SUCCESS


class BreakingPolicy(NoisePolicy):
    def plan(self, histories: Any, noise: Any) -> Any:
        raise MemoryError("of the machine that the policy runs on")


def test_a_policy_that_breaks_is_no_verdict(evaluate: Any, tmp_path: Path) -> None:
    with running_server(BreakingPolicy()) as server:
        assert evaluate("0:1", address=server.address, max_attempts=1) == 1
    (record,) = ledger_of(tmp_path, "noise")
    assert record.outcome is Outcome.ERROR
    assert "MemoryError: of the machine" in (record.message or "")


def test_our_servers_say_when_the_first_plan_was_made(evaluate: Any, tmp_path: Path) -> None:
    with running_server(NoisePolicy()) as server:
        assert evaluate("0:1", address=server.address) == 0
    (record,) = ledger_of(tmp_path, "noise")
    assert record.first_inference_s == 0.0


def test_a_foreign_server_is_seen_to_plan_when_it_first_moves_an_arm(
    served: Any, evaluate: Any, tmp_path: Path
) -> None:
    def change_answer(step: Any, action: Any) -> None:
        if step.scenario_index == 1 and step.number > 2:
            action.pose_status[0].pose.translation[2] += 0.02

    served.change_answer = change_answer
    assert evaluate("0:2") == 0
    still, moving = sorted(ledger_of(tmp_path), key=lambda record: record.scenario_index)
    assert still.first_inference_s is None
    assert moving.first_inference_s == pytest.approx(0.2)
