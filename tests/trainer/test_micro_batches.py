"""Policies whose batches are computed in parts, one after the other, for want of memory."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from tests.trainer.small_models import EXPERT, LANGUAGE, VISION
from tests.trainer.steps import train_until
from trainer.checkpoint import read_checkpoint
from trainer.co_training_configuration import AlsoConfig
from trainer.learner import StepResult
from trainer.models.action.configuration import TimeConfig
from trainer.policy_configuration import TrainConfig
from trainer.policy_learner import ChunkLearner
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.stages.catalog import open_stage
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)


@pytest.fixture(scope="module")
def instructed(tiny_config: TrainConfig) -> VisionLanguageActionTrainConfig:
    return VisionLanguageActionTrainConfig(
        data=tiny_config.data,
        chunk_length=8,
        batch_size=12,
        num_steps=4,
        validation_episodes=2,
        validation_every=4,
        save_state_every=2,
        device="cpu",
        precision="float32",
        num_threads=1,
        optimizer=replace(tiny_config.optimizer, max_gradient_norm=1e9),
        model=VisionLanguageActionShape(
            language=replace(LANGUAGE, context_length=48),
            vision=VISION,
            expert=EXPERT,
            image_size=32,
            instruction_tokens=12,
            # Each draw of a time takes several random numbers.
            time=TimeConfig(distribution="beta", alpha=1.5, beta=2.0),
            repeats=2,
        ),
    )


@pytest.fixture(scope="module")
def co_trained(
    instructed: VisionLanguageActionTrainConfig, tmp_path_factory: pytest.TempPathFactory
) -> VisionLanguageActionTrainConfig:
    """Documents of unequal length, so that its sequences have unequally many labels."""
    path = tmp_path_factory.mktemp("data") / "words.jsonl"
    texts = ("The mug is red. " * (1 + n % 3) for n in range(30))
    path.write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    also = AlsoConfig(data=(f"{path}=0.25:4",), validation_documents=4, num_answers=0)
    return replace(instructed, also=also)


@pytest.fixture(scope="module")
def policy(tiny_config: TrainConfig) -> TrainConfig:
    optimizer = replace(tiny_config.optimizer, max_gradient_norm=1e9)
    return replace(tiny_config, num_steps=4, checkpoint_steps=(), optimizer=optimizer)


def first_step(
    config: RunConfig, output: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[StepResult, dict[str, Tensor], Sequence[Tensor]]:
    """Its result, its gradients by parameter, and which timesteps count of what was computed
    at once."""
    seen: list[Tensor] = []
    with (
        monkeypatch.context() as patched,
        open_stage(config, RunDirectory(root=output))() as stage,
    ):
        output.mkdir(exist_ok=True)
        kind = type(stage.learner)
        assert issubclass(kind, ChunkLearner)
        own_loss = kind.loss

        def loss(self, batch, *draws):
            seen.append(batch.valid)
            return own_loss(self, batch, *draws)

        patched.setattr(kind, "loss", loss)
        report = stage.step(next(iter(stage.batches(0, 1))), 0)
        named = dict(stage.learner.network.named_parameters())
        gradients = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
    return report.result, gradients, seen


@pytest.mark.parametrize("kind", ["policy", "instructed", "co_trained"])
def test_parts_give_the_gradients_of_the_whole(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: TrainConfig | VisionLanguageActionTrainConfig = request.getfixturevalue(kind)
    expected, gradients, whole = first_step(config, tmp_path / "whole", monkeypatch)
    assert [len(each) for each in whole] == [12]
    for num_threads, sizes in ((1, [3] * 4), (2, [1, 2] * 4)):
        parts = replace(config, micro_batch_size=3, num_threads=num_threads)
        if isinstance(parts, VisionLanguageActionTrainConfig):
            parts = replace(parts, also=replace(parts.also, micro_batch_size=2))
        output = tmp_path / f"{num_threads}"
        result, by_parts, seen = first_step(parts, output, monkeypatch)
        assert sorted(map(len, seen)) == sorted(sizes)
        # A mean over parts would not do.
        assert len({float(each.sum()) / len(each) for each in seen}) > 1
        assert result.loss == pytest.approx(expected.loss, rel=1e-5)
        assert result.losses == pytest.approx(dict(expected.losses), rel=1e-5)
        assert by_parts.keys() == gradients.keys()
        for name, gradient in gradients.items():
            scale = float(gradient.abs().max())
            torch.testing.assert_close(
                by_parts[name], gradient, rtol=1e-3, atol=1e-5 * scale + 1e-8, msg=name
            )


@pytest.mark.parametrize("kind", ["policy", pytest.param("co_trained", marks=pytest.mark.slow)])
def test_a_resume_gives_the_same_bits_and_other_parts_almost(
    kind: str, tmp_path: Path, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = replace(request.getfixturevalue(kind), micro_batch_size=4)
    finished = read_checkpoint(train(config, tmp_path / "whole")).weights
    train_until(config, tmp_path / "same", monkeypatch, 3)
    again = read_checkpoint(train(config, tmp_path / "same")).weights
    assert all(torch.equal(again[name], weight) for name, weight in finished.items())
    train_until(config, tmp_path / "other", monkeypatch, 3)
    other = replace(config, micro_batch_size=2)
    if isinstance(other, VisionLanguageActionTrainConfig):
        other = replace(other, also=replace(other.also, micro_batch_size=1))
    almost = read_checkpoint(train(other, tmp_path / "other")).weights
    for name, weight in finished.items():
        torch.testing.assert_close(almost[name], weight, atol=2e-4, rtol=1e-3)


@pytest.mark.parametrize("number", [5, 0, -3, 24])
def test_what_does_not_divide_the_batch_is_refused(
    number: int, policy: TrainConfig, instructed: VisionLanguageActionTrainConfig
) -> None:
    for config in (policy, instructed):
        with pytest.raises(
            ConfigurationError,
            match=rf"^micro_batch_size: expected a divisor of batch_size \(12\), got {number}$",
        ):
            replace(config, micro_batch_size=number)
    with pytest.raises(
        ConfigurationError, match=r"^also.micro_batch_size: expected a divisor of the .* \(6, 4\)"
    ):
        AlsoConfig(data=("a=1:6", "b=1"), micro_batch_size=number)
