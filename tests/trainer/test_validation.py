"""What is measured of plans on held-out windows, and how they are planned."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from policy_interface.demonstration import demonstration_path, save_demonstration
from tests.trainer.conftest import synthetic_demonstration
from tests.trainer.small_models import EXPERT, LANGUAGE, VISION
from trainer.models.policy_network import PolicyNetwork
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.open_loop import OpenLoopPlans
from trainer.plotting.quantities import in_order
from trainer.policy_configuration import TrainConfig
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.stages.catalog import open_stage
from trainer.stages.stage import Measurement
from trainer.validation import _half_way_round, _of_another_task
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)


def test_no_more_windows_than_a_step_has_are_planned_at_once(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    passes: list[int] = []
    forward = PolicyNetwork.forward

    def forward_and_note(self: PolicyNetwork, images, proprioception_BP, *rest, **options):
        passes.append(len(proprioception_BP))
        return forward(self, images, proprioception_BP, *rest, **options)

    monkeypatch.setattr(PolicyNetwork, "forward", forward_and_note)

    def measured(batch_size: int) -> dict[str, float]:
        passes.clear()
        config = replace(tiny_config, batch_size=batch_size)
        with open_stage(config, RunDirectory(root=tmp_path))() as stage:
            measurement = stage.measure()
        assert measurement is not None
        return dict(measurement.scalars)

    # With their own images, and with others'.
    at_once = measured(64)
    assert passes == [28] * 2
    in_parts = measured(5)
    assert passes == [4, 5, 5, 4, 5, 5] * 2
    assert in_parts == pytest.approx(at_once, rel=1e-5)


@pytest.mark.parametrize("is_blind", [False, True])
def test_a_policy_that_does_not_look_is_told(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_blind: bool
) -> None:
    seen: list[Tensor] = []
    forward = PolicyNetwork.forward

    def forward_and_note(self: PolicyNetwork, images, proprioception_BP, *rest, **options):
        seen.append(images["wrist"])
        # A network at its beginning plans the same whatever it sees.
        plans = forward(self, images, proprioception_BP, *rest, **options)
        pixels = images["wrist"].flatten(1)
        where = (pixels * torch.linspace(0, 1, pixels.shape[1])).mean(1)
        return plans if is_blind else plans + where[:, None, None]

    monkeypatch.setattr(PolicyNetwork, "forward", forward_and_note)
    with open_stage(tiny_config, RunDirectory(root=tmp_path))() as stage:
        measurement = stage.measure()
    assert measurement is not None
    own, others = torch.cat(seen).chunk(2)
    # Two episodes of 14 windows, in which nothing moves.
    assert torch.equal(others, own.roll(14, 0))
    assert not torch.equal(own[0], own[14])
    error_mm = measurement.scalars["position_mm"]
    with_others_mm = measurement.scalars["position_with_other_images_mm"]
    assert (with_others_mm == error_mm) == is_blind
    assert measurement.told.endswith("images: blind so far") == (with_others_mm < 1.02 * error_mm)


@pytest.mark.parametrize("is_deaf", [False, True])
def test_it_is_measured_what_words_decide(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, is_deaf: bool
) -> None:
    # One of each task is held out.
    for index, task in enumerate(["Reach", "Leave"] * 5):
        demonstration = replace(
            synthetic_demonstration(index), task=task, instruction=f"{task} it."
        )
        save_demonstration(demonstration, demonstration_path(tmp_path, index))
    seen: list[dict[str, Tensor]] = []

    def forward(_self, images, _proprioception_BP, noise_BTA, _steps, prompt_BS, **_options):
        seen.append({"wrist": images["wrist"], "prompt": prompt_BS})
        heard_B = 0 * prompt_BS[:, 0] if is_deaf else prompt_BS.sum(1)
        return 1e-3 * heard_B[:, None, None] + torch.zeros_like(noise_BTA)

    monkeypatch.setattr(VisionLanguagePolicy, "forward", forward)
    measurement = measured(told_config(tmp_path))
    own, _, others = (
        {name: torch.cat([each[name] for each in part]) for name in part[0]}
        for part in (seen[:3], seen[3:6], seen[6:])
    )
    assert torch.equal(others["wrist"], own["wrist"])
    assert not torch.equal(own["prompt"][0], own["prompt"][14])
    assert torch.equal(others["prompt"], own["prompt"].roll(14, 0))
    error_mm = measurement.scalars["position_mm"]
    with_others_mm = measurement.scalars["position_with_other_words_mm"]
    assert (with_others_mm == error_mm) == is_deaf
    assert f"{with_others_mm:.1f} mm with another task's words" in measurement.told


def told_config(data: Path) -> VisionLanguageActionTrainConfig:
    return VisionLanguageActionTrainConfig(
        data=str(data),
        chunk_length=8,
        batch_size=10,
        num_steps=1,
        validation_episodes=2,
        device="cpu",
        precision="float32",
        num_threads=1,
        model=VisionLanguageActionShape(
            language=LANGUAGE, vision=VISION, expert=EXPERT, image_size=32, instruction_tokens=12
        ),
    )


def measured(config: RunConfig) -> Measurement:
    """Before the first step."""
    run = RunDirectory(root=Path(config.data) / "run")
    run.root.mkdir()
    with open_stage(config, run)() as stage:
        measurement = stage.measure()
    assert measurement is not None
    return measurement


def test_of_one_task_no_words_are_another_tasks(tmp_path: Path) -> None:
    for index in range(5):
        save_demonstration(synthetic_demonstration(index), demonstration_path(tmp_path, index))
    assert "position_with_other_words_mm" not in measured(told_config(tmp_path)).scalars


@pytest.mark.parametrize(
    ("tasks", "others"),
    [
        (["a", "a", "b", "b"], [2, 3, 0, 1]),
        (["a", "a", "a", "b"], [3, 3, 3, 0]),
        (["a", "b", "a", "a", "b", "c"], [1, 0, 4, 5, 3, 0]),
        (["a", "a"], None),
        (["a", None], None),
    ],
)
def test_other_words_are_of_another_task(tasks: list[str], others: list[int] | None) -> None:
    rows = _of_another_task(tasks)
    assert (None if rows is None else rows.tolist()) == others


def test_other_images_are_of_the_same_data_set() -> None:
    rows = _half_way_round(np.array([0, 0, 0, 0, 2, 2, 2]))
    assert rows.tolist() == [2, 3, 0, 1, 5, 6, 4]


def test_data_sets_of_one_window_lend_each_other_images() -> None:
    rows = _half_way_round(np.array([0, 1, 1, 2, 3]))
    assert rows.tolist() == [3, 2, 1, 4, 0]


def drifting(num_executed: int, num_valid: int) -> OpenLoopPlans:
    """Two windows of a chunk of 16, off by 1 mm, 1 degree and 2 mm of width more with each action;
    the second one's are three times as far off. The episode ends after num_valid actions."""
    away = np.array([1, 3])[:, None] * np.arange(16)
    taught = np.tile(np.eye(4), (2, 16, 1, 1, 1))
    poses, angle = taught.copy(), np.deg2rad(away)
    poses[:, :, 0, 0, 3] = 1e-3 * away
    for (row, column), value in {
        (0, 0): np.cos(angle),
        (1, 1): np.cos(angle),
        (1, 0): np.sin(angle),
        (0, 1): -np.sin(angle),
    }.items():
        poses[:, :, 0, row, column] = value
    return OpenLoopPlans(
        arms=("right",),
        grippers=("right",),
        rate_hz=10.0,
        open_loop_steps=num_executed,
        episode=np.zeros(2, np.int64),
        anchor=np.arange(2),
        poses=poses,
        widths_m=(2e-3 * away[..., None]).astype(np.float64),
        taught_poses=taught,
        taught_widths_m=np.zeros((2, 16, 1)),
        valid=np.tile(np.arange(16) < num_valid, (2, 1)),
    )


@pytest.mark.parametrize(
    ("num_executed", "num_valid", "numbers"),
    [
        (16, 16, [1, 4, 8, 16]),
        (10, 16, [1, 3, 5, 10]),
        (2, 16, [1, 2]),
        (1, 16, [1]),
        # No window has its eighth action.
        (8, 5, [1, 2, 4]),
    ],
)
def test_errors_are_told_by_action(num_executed: int, num_valid: int, numbers: list[int]) -> None:
    errors = drifting(num_executed, num_valid).error_by_action()
    assert list(errors) == numbers
    for number, error in errors.items():
        away = 2.0 * (number - 1)
        assert error.position_mm == pytest.approx(away)
        assert error.rotation_deg == pytest.approx(away, abs=1e-5)
        assert error.gripper_mm == pytest.approx(2 * away)


def test_the_error_of_what_is_executed_is_their_mean() -> None:
    error = drifting(4, 16).executed_error()
    told = (error.position_mm, error.rotation_deg, error.gripper_mm)
    assert told == pytest.approx((3.0, 3.0, 6.0), abs=1e-5)


def test_actions_are_shown_as_they_follow_each_other() -> None:
    names = [f"validation/position_at_action_{number}_mm" for number in (1, 4, 16)]
    assert in_order({*names, "validation/position_mm"}) == ["validation/position_mm", *names]
