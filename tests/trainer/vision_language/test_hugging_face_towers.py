"""Vision towers of Hugging Face under our stages: from a folder to a policy that outlives it."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.torch
import torch
from torch import Tensor

from policy_interface.contract import RIGHT_ARM
from policy_interface.types import Observation
from tests.trainer import hugging_face_folders as folders
from tests.trainer.small_models import EXPERT, LANGUAGE
from tests.trainer.steps import train_until
from trainer.checkpoint import read_checkpoint
from trainer.command_line import main
from trainer.configuration_json import config_from_json, config_to_json
from trainer.hugging_face_configuration import HuggingFaceVision
from trainer.language_checkpoint import read_language_checkpoint
from trainer.models.adaptation import AdaptationConfig, AdaptationKind
from trainer.models.hugging_face_vision import HuggingFaceVisionConfig, HuggingFaceVisionTower
from trainer.policy_loading import load_policy
from trainer.run_directory import RunDirectory
from trainer.stages.beginnings import shaped_like_its_beginning
from trainer.stages.vision_language import open_vision_language_stage
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_checkpoint import (
    build_vision_language_model,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig

pytest.importorskip("transformers")
pytest.importorskip("peft")

MakeObservation = Callable[..., Observation]


def tower(folder: Path, kind: AdaptationKind) -> HuggingFaceVision:
    return HuggingFaceVision(
        path=str(folder), adaptation=AdaptationConfig(kind=kind, rank=2), shuffle_factor=2
    )


def seeing(
    config: VisionLanguageTrainConfig, folder: Path, kind: AdaptationKind, **changed: Any
) -> VisionLanguageTrainConfig:
    shape = VisionLanguageShape(language=LANGUAGE, vision=tower(folder, kind), image_size=16)
    run: dict[str, Any] = {"num_steps": 4, "checkpoint_steps": (), "num_answers": 1}
    return replace(config, model=shape, **run, **changed)


def acting(
    data: Path, vision: HuggingFaceVision, init: str = ""
) -> VisionLanguageActionTrainConfig:
    """So small a step that the weights stay where they began."""
    rates = ("model.backbone.vision=0.1",) if init else ()
    return VisionLanguageActionTrainConfig(
        data=str(data),
        init=init,
        num_steps=1,
        chunk_length=8,
        batch_size=4,
        validation_episodes=0,
        device="cpu",
        precision="float32",
        num_threads=1,
        ema=EmaConfig(max_decay=0.0),
        optimizer=OptimizerConfig(learning_rate=1e-12, warmup_steps=0, multipliers=rates),
        model=VisionLanguageActionShape(
            language=LANGUAGE,
            vision=vision,
            expert=EXPERT,
            image_size=16,
            instruction_tokens=20,
        ),
    )


def published(folder: Path) -> dict[str, Tensor]:
    """What a policy or an answer is made of, as the folder has it."""
    config = HuggingFaceVisionConfig(
        path=str(folder), image_mean=folders.MEAN, image_std=folders.STD
    )
    return {
        f"vision.{name}": each for name, each in HuggingFaceVisionTower(config).named_parameters()
    }


def without_updates(name: str) -> str:
    return name.replace(".base_layer.", ".")


@pytest.mark.parametrize(
    ("model", "kind"),
    [("clip", "frozen"), ("siglip", "full"), ("dinov2", "frozen"), ("dinov2", "full")],
)
def test_its_answers_get_better(
    model: str,
    kind: AdaptationKind,
    config: VisionLanguageTrainConfig,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folders.write_tower_folder(model, folder)
    before = published(folder)
    run = RunDirectory(root=tmp_path / "run")
    run.root.mkdir()
    asked = seeing(config, folder, kind, ema=EmaConfig(max_decay=0.0))
    shaped = shaped_like_its_beginning(asked, run)
    assert config_from_json(config_to_json(shaped)) == shaped
    with open_vision_language_stage(shaped, run)() as stage:
        batch = next(iter(stage.batches(0, 1)))
        losses = [stage.step(batch, step).result.loss for step in range(6)]
        after = dict(stage.learner.network.named_parameters())
        assert losses[-1] < losses[0] - 0.2, losses
        changed = {name for name, each in before.items() if not torch.equal(after[name], each)}
    assert changed == (set() if kind == "frozen" else set(before))


def test_it_begins_with_a_language_model_and_goes_on_without_its_folder(
    config: VisionLanguageTrainConfig,
    words: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """Both legs drop nothing, though the folder says so; and the weights are those of one leg."""
    folder = tmp_path / "folder"
    folders.write_tower_folder("dinov2_with_registers", folder)
    rates = OptimizerConfig(
        learning_rate=3e-3, warmup_steps=0, multipliers=("vision=0.1", "language=0")
    )
    asked = seeing(config, folder, "full", init=str(words), optimizer=rates)
    before = published(folder)
    whole = read_vision_language_checkpoint(train(asked, tmp_path / "whole"))
    # What is read in a folder is no replacement of what a recipe says.
    told = [line for line in capfd.readouterr().err.splitlines() if line.startswith("as ")]
    assert told == [f"as {words} has it: model.language.transformer.width 48 instead of 32"]
    language = read_language_checkpoint(words).weights
    for name, each in language.items():
        assert torch.equal(whole.weights[f"language.{name}"], each), name
    for name, each in before.items():
        # Four steps of AdamW, each as long as its rate; the average lags behind.
        moved = (whole.weights[name] - each).abs().max()
        assert 0 < moved <= 4 * 3e-4 * 1.1, name

    train_until(asked, tmp_path / "stopped", monkeypatch, 2)
    shutil.rmtree(folder)
    again = read_vision_language_checkpoint(train(asked, tmp_path / "stopped"))
    for name, each in whole.weights.items():
        assert torch.equal(again.weights[name], each), name


@pytest.mark.parametrize("kind", ["frozen", "lora"])
def test_a_policy_that_begins_with_it_serves(
    kind: AdaptationKind,
    config: VisionLanguageTrainConfig,
    demonstration_folder: Path,
    make_observation: MakeObservation,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "folder"
    folders.write_tower_folder("siglip", folder)
    before = published(folder)
    path = train(seeing(config, folder, kind), tmp_path / "vlm")
    shutil.rmtree(folder)
    checkpoint = read_vision_language_checkpoint(path)
    updates = {name: each for name, each in checkpoint.weights.items() if "lora_B" in name}
    assert bool(updates) == (kind == "lora")
    plain = {without_updates(name): each for name, each in checkpoint.weights.items()}
    for name, each in before.items():
        assert torch.equal(plain[name], each), name
    model = build_vision_language_model(checkpoint)
    assert main(["inspect", str(path)]) == 0
    assert "tokens per image" in capfd.readouterr().out

    # Trained in full, whatever trained it before.
    config_of_policy = acting(demonstration_folder, HuggingFaceVision(shuffle_factor=2), str(path))
    policy = load_policy(train(config_of_policy, tmp_path / "vla"), batch_invariant=False)
    # Low-rank updates have become part of the matrices: it sees as the model did.
    image_NCHW = 2 * torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0)) - 1
    backbone: Any = policy.network.get_submodule("model.backbone")
    assert not any("lora_" in name for name, _ in backbone.named_parameters())
    with torch.no_grad():
        expected = model.get_submodule("vision")(image_NCHW)
        torch.testing.assert_close(backbone.vision(image_NCHW), expected, atol=1e-5, rtol=1e-5)

    def plan(seed: int) -> np.ndarray:
        told = replace(make_observation(seed), language_instruction="Reach the square.")
        (chunk,) = policy.plan([[told]], [0])
        return np.array([action.poses[RIGHT_ARM].translation_m for action in chunk])

    assert np.isfinite(plan(0)).all()
    assert np.abs(plan(0) - plan(1)).max() > 0


def test_a_policy_begins_with_a_folder(demonstration_folder: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folders.write_tower_folder("clip", folder)
    before = published(folder)
    config = acting(demonstration_folder, tower(folder, "frozen"))
    path = train(config, tmp_path / "run")
    shutil.rmtree(folder)
    weights = read_checkpoint(path).weights
    for name, each in before.items():
        assert torch.equal(weights[f"model.backbone.{name}"], each), name
    load_policy(path, batch_invariant=False)
    assert train(config, tmp_path / "run") == path


def a_language_model(folder: Path) -> list[str]:
    folders.write_language_folder(folder)
    return []


def no_folder(folder: Path) -> list[str]:
    return []


def pickled_weights_alone(folder: Path) -> list[str]:
    folders.write_tower_folder("clip", folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    torch.save(weights, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()
    return []


def no_weights(folder: Path) -> list[str]:
    folders.write_tower_folder("siglip", folder)
    (folder / "model.safetensors").unlink()
    return []


def no_processor(folder: Path) -> list[str]:
    folders.write_tower_folder("dinov2", folder)
    (folder / "preprocessor_config.json").unlink()
    return []


def a_tensor_is_missing(folder: Path) -> list[str]:
    folders.write_tower_folder("dinov2", folder)
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    weights.pop("layernorm.weight")
    safetensors.torch.save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    return []


def another_size(folder: Path) -> list[str]:
    folders.write_tower_folder("siglip", folder)
    return ["--model.image-size", "32"]


def too_few_patches(folder: Path) -> list[str]:
    folders.write_tower_folder("clip", folder)
    return ["--model.vision.shuffle-factor", "4"]


def of_any_size_of_patches(folder: Path) -> list[str]:
    """SigLIP 2 for pictures of any shape, whose patches its processor cuts."""
    from transformers import Siglip2Config

    Siglip2Config().save_pretrained(folder)
    return []


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (a_language_model, "model.vision.path: expected one of clip, siglip, clip_vision_model"),
        (no_folder, "model.vision.path: expected the folder of a model"),
        (pickled_weights_alone, "no AutoModel that transformers reads"),
        (no_weights, "no AutoModel that transformers reads"),
        (no_processor, "model.vision.image_mean, image_std: expected them in one of"),
        (a_tensor_is_missing, "missing layernorm.weight"),
        (another_size, "model.image_size: expected 16, as the vision tower was trained with"),
        (too_few_patches, "expected a divisor of the 2 x 2 patches"),
        (of_any_size_of_patches, "got a 'siglip2'"),
    ],
)
def test_what_cannot_be_is_one_line(
    make: Callable[[Path], list[str]],
    said: str,
    words: Path,
    pictures: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = tmp_path / "folder"
    options = ["--data", str(pictures), "--output", str(tmp_path / "run"), "--init", str(words)]
    options += ["--model.vision.path", str(folder), "--device", "cpu", "--model.image-size", "16"]
    assert main(["train", "tower_vlm", *options, *make(folder)]) == 2
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("trainer:")]
    assert len(lines) == 1
    assert said in lines[0]


def test_the_recipes_take_it(pictures: Path, demonstration_folder: Path, tmp_path: Path) -> None:
    """As docs/training.md has it: two folders, joined, and a policy on what came of them."""
    folders.write_tower_folder("siglip", tmp_path / "siglip")
    folders.write_language_folder(tmp_path / "smollm2")
    small = ["--num-steps", "1", "--device", "cpu", "--batch-size", "8", "--model.image-size", "16"]
    seen = ["--model.vision.path", str(tmp_path / "siglip")]
    read = ["--model.language.path", str(tmp_path / "smollm2")]
    read += ["--model.language.context-length", "96", "--validation-documents", "4"]
    output = ["--data", str(pictures), "--output", str(tmp_path / "vlm")]
    assert main(["train", "tower_vlm", *output, *seen, *read, *small]) == 0
    shape = ["--model.expert.transformer.depth", "2", "--validation-episodes", "0"]
    output = ["--data", str(demonstration_folder), "--output", str(tmp_path / "vla")]
    init = ["--init", str(tmp_path / "vlm" / "checkpoints" / "final")]
    assert main(["train", "tower_vla", *output, *init, *small, *shape]) == 0
    stored = read_checkpoint(tmp_path / "vla" / "checkpoints" / "final").weights
    updates = [name for name in stored if "lora_B" in name]
    for part in ("vision", "language"):
        assert any(name.startswith(f"model.backbone.{part}.") for name in updates)
    plain = {without_updates(name): each for name, each in stored.items()}
    for name, each in published(tmp_path / "siglip").items():
        assert torch.equal(plain[f"model.backbone.{name}"], each), name
