"""Vision-language models begin with words, and policies with them."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainer.small_models import EXPERT, LANGUAGE, TOWER, VISION
from trainer.action_token_configuration import ActionTokenShape
from trainer.checkpoint import read_checkpoint
from trainer.checkpoint_files import CheckpointError
from trainer.command_line import main
from trainer.configuration_json import config_to_json
from trainer.language_checkpoint import read_language_checkpoint
from trainer.policy_loading import load_policy
from trainer.requirements import ConfigurationError
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_checkpoint import read_vision_language_checkpoint
from trainer.vision_language_configuration import VisionLanguageTrainConfig


def test_it_begins_with_a_language_model(
    config: VisionLanguageTrainConfig, words: Path, tmp_path: Path
) -> None:
    begun = replace(config, init=str(words), num_steps=1, checkpoint_steps=())
    # So small a step that the weights stay where they began.
    still = replace(begun, optimizer=OptimizerConfig(learning_rate=1e-12, warmup_steps=0))
    checkpoint = read_vision_language_checkpoint(train(still, tmp_path / "run"))
    language = read_language_checkpoint(words)
    assert checkpoint.config.model.language == language.config.model
    assert checkpoint.tokenizer == language.tokenizer
    for name, expected in language.weights.items():
        given = checkpoint.weights[f"language.{name}"]
        torch.testing.assert_close(given, expected, rtol=0, atol=1e-9)
    mean = language.weights["embedding.weight"].mean(dim=0)
    torch.testing.assert_close(checkpoint.weights["observation_token"], mean, rtol=0, atol=1e-6)


_SEEING = {
    "language": replace(LANGUAGE, vocabulary_size=300),
    "vision": replace(VISION, width=16),
    "image_size": 32,
    "instruction_tokens": 20,
}


@pytest.mark.parametrize(
    "model",
    [
        VisionLanguageActionShape(**_SEEING, expert=EXPERT),
        ActionTokenShape(**_SEEING),
    ],
    ids=["flow", "words"],
)
def test_the_chain_ends_in_a_policy(
    finished: Path,
    demonstration_folder: Path,
    tmp_path: Path,
    model: VisionLanguageActionShape | ActionTokenShape,
) -> None:
    acting = VisionLanguageActionTrainConfig(
        data=str(demonstration_folder),
        init=str(finished),
        num_steps=1,
        chunk_length=8,
        batch_size=4,
        validation_episodes=0,
        device="cpu",
        precision="float32",
        num_threads=1,
        ema=EmaConfig(max_decay=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-12, warmup_steps=0),
        model=model,
    )
    policy = load_policy(train(acting, tmp_path / "run"))
    weights = dict(policy.network.named_parameters())
    checkpoint = read_vision_language_checkpoint(finished)
    for name, expected in checkpoint.weights.items():
        torch.testing.assert_close(
            weights[f"model.backbone.{name}"].cpu(), expected, rtol=0, atol=1e-9
        )
    assert read_checkpoint(tmp_path / "run" / "checkpoints" / "final").tokenizer == (
        checkpoint.tokenizer
    )
    # A run that has begun needs its beginning no more.
    again = replace(acting, init=str(tmp_path / "gone"))
    assert train(again, tmp_path / "run") == tmp_path / "run" / "checkpoints" / "final"


def test_words_decide_what_a_policy_looks_for_as_its_recipe_says(
    config: VisionLanguageTrainConfig, demonstration_folder: Path, tmp_path: Path
) -> None:
    """The stage before, which reads pictures as they are, has nothing of it."""
    model = replace(config.model, vision=TOWER)
    seeing = replace(config, model=model, num_steps=1, checkpoint_steps=())
    acting = VisionLanguageActionTrainConfig(
        data=str(demonstration_folder),
        init=str(train(seeing, tmp_path / "vlm")),
        num_steps=1,
        chunk_length=8,
        batch_size=4,
        validation_episodes=0,
        device="cpu",
        num_threads=1,
        model=VisionLanguageActionShape(
            **{**_SEEING, "vision": replace(TOWER, channels=8, modulated_views=2)}, expert=EXPERT
        ),
    )
    policy = load_policy(train(acting, tmp_path / "run"))
    modulation = policy.network.model.backbone.modulation
    assert modulation.channels == (TOWER.channels, TOWER.channels)
    assert modulation.num_views == len(policy.contract.cameras) == 2


def test_what_cannot_begin_it_is_refused_before_anything_is_written(
    config: VisionLanguageTrainConfig, finished: Path, trained_checkpoint: Path, tmp_path: Path
) -> None:
    with pytest.raises(CheckpointError, match="to begin with, got a checkpoint of kind 'policy'"):
        train(replace(config, init=str(trained_checkpoint)), tmp_path / "run")
    with pytest.raises(CheckpointError, match="nowhere: does not exist"):
        train(replace(config, init=str(tmp_path / "nowhere")), tmp_path / "run")
    both = replace(config, init=str(finished), tokenizer=str(finished / "tokenizer.json"))
    with pytest.raises(ConfigurationError, match="tokenizer: expected none beside init"):
        train(both, tmp_path / "run")
    assert not (tmp_path / "run").exists()
    excepted = replace(config, init=str(finished), init_except=("visoin",))
    with pytest.raises(ConfigurationError, match="init_except.*'visoin'"):
        train(excepted, tmp_path / "run")


def test_init_replaces_no_shape_that_was_asked_for(
    config: VisionLanguageTrainConfig,
    words: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    stored = tmp_path / "tiny.json"
    stored.write_text(config_to_json(replace(config, num_steps=1, checkpoint_steps=())))
    options = ["train", str(stored), "--init", str(words), "--output", str(tmp_path / "run")]
    asked = ["--model.language.transformer.width", "64"]
    assert main([*options, *asked]) == 2
    said = capfd.readouterr().err
    assert f"transformer.width: expected 48, as {words} has it, got 64" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
    # What the recipe says without being asked gives way, and this is told in one line.
    assert main([*options, "--model.language.transformer.depth=2"]) == 0
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("as ")]
    assert told == [f"as {words} has it: model.language.transformer.width 48 instead of 32"]
    # Nor does a run that has begun with it.
    assert main([*options, *asked]) == 2
    assert "transformer.width: expected 48, as the run has it, got 64" in capfd.readouterr().err
    assert main(options) == 0


def test_a_damaged_beginning_is_refused(
    config: VisionLanguageTrainConfig,
    finished: Path,
    demonstration_folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    damaged = Path(shutil.copytree(finished, tmp_path / "damaged"))
    weights = bytearray((damaged / "model.safetensors").read_bytes())
    weights[-5] ^= 1
    (damaged / "model.safetensors").write_bytes(weights)
    options = ["--data", str(demonstration_folder), "--output", str(tmp_path / "run")]
    assert main(["train", "tiny_vla", "--init", str(damaged), *options]) == 2
    said = capfd.readouterr().err
    assert "model.safetensors: corrupt: its SHA-256" in said
    assert said.count("\n") == 1
    assert not (tmp_path / "run").exists()
