"""Models of Hugging Face under our stages: from a folder to a policy that needs it no more."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from policy_interface.contract import RIGHT_ARM
from policy_interface.types import Observation
from tests.trainer import hugging_face_folders as folders
from tests.trainer.pictures import write_plain
from tests.trainer.small_models import EXPERT, VISION
from trainer.checkpoint import read_checkpoint
from trainer.command_line import main
from trainer.hugging_face_configuration import HuggingFaceLanguage, HuggingFaceVisionLanguage
from trainer.hugging_face_folder import read_language_folder, read_vision_language_folder
from trainer.inference import Policy
from trainer.models.adaptation import AdaptationConfig, AdaptationKind
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.policy_learner import VisionLanguageActionLearner
from trainer.policy_loading import load_policy
from trainer.stages.vision_language_action import open_vision_language_action_stage
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    HuggingFaceActionShape,
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_checkpoint import read_vision_language_checkpoint
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig

pytest.importorskip("transformers")
pytest.importorskip("peft")

MakeObservation = Callable[..., Observation]
_VISION = replace(VISION, width=16, feed_forward_width=32, image_size=16)
_RUN: dict[str, Any] = {
    "num_steps": 2,
    "device": "cpu",
    "precision": "float32",
    "num_threads": 2,
    "optimizer": OptimizerConfig(warmup_steps=0, learning_rate=1e-2),
}


@pytest.fixture(scope="module")
def language_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("smollm")
    folders.write_language_folder(folder)
    return folder


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    return write_plain(folder, 12)


def acting(model: Any, data: Path, **changed: Any) -> VisionLanguageActionTrainConfig:
    run = {"chunk_length": 8, "batch_size": 4, "validation_episodes": 1, **_RUN, **changed}
    return VisionLanguageActionTrainConfig(data=str(data), model=model, **run)


def shape_on(folder: Path, kind: AdaptationKind = "lora") -> HuggingFaceActionShape:
    return HuggingFaceActionShape(
        backbone=HuggingFaceVisionLanguage(
            path=str(folder), adaptation=AdaptationConfig(kind=kind, rank=2)
        ),
        expert=EXPERT,
        image_size=16,
        instruction_tokens=24,
        repeats=2,
    )


def seeing(folder: Path, pictures: Path, kind: AdaptationKind) -> VisionLanguageTrainConfig:
    language = HuggingFaceLanguage(
        path=str(folder),
        context_length=96,
        adaptation=AdaptationConfig(kind=kind, rank=2),
    )
    return VisionLanguageTrainConfig(
        data=str(pictures),
        batch_size=4,
        validation_documents=3,
        sample_tokens=3,
        model=VisionLanguageShape(language=language, vision=_VISION, image_size=16),
        **_RUN,
    )


def told(observation: Observation, instruction: str = "Reach the square.") -> list[Observation]:
    return [replace(observation, language_instruction=instruction)]


def positions(policy: Policy, request: list[Observation], seed: int = 0) -> np.ndarray:
    (chunk,) = policy.plan([request], [seed])
    return np.array([action.poses[RIGHT_ARM].translation_m for action in chunk])


def published(folder: Path) -> dict[str, Tensor]:
    """The folder's tensors as transformers names them in the model."""
    from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForImageTextToText

    is_seeing = hasattr(AutoConfig.from_pretrained(folder), "vision_config")
    kind: Any = AutoModelForImageTextToText if is_seeing else AutoModelForCausalLM
    return dict(kind.from_pretrained(folder, dtype=torch.float32).named_parameters())


def without_updates(name: str) -> str:
    return name.replace(".base_layer.", ".")


@pytest.mark.parametrize(
    ("model", "kind"),
    [
        ("qwen3_vl", "lora"),
        ("smolvlm", "frozen"),
        pytest.param("qwen3_vl", "frozen", marks=pytest.mark.slow),
        pytest.param("paligemma", "lora", marks=pytest.mark.slow),
    ],
)
def test_a_policy_on_it_is_trained_stored_and_serves(
    model: str,
    kind: AdaptationKind,
    demonstration_folder: Path,
    make_observation: MakeObservation,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "folder"
    folders.write_vision_language_folder(model, folder)
    config = acting(shape_on(folder, kind), demonstration_folder)
    path = train(config, tmp_path / "run")
    before = published(folder)
    # From here on nothing but the checkpoint is there.
    shutil.rmtree(folder)
    checkpoint = read_checkpoint(path)
    prefix = "model.backbone.model."
    stored = {
        without_updates(name.removeprefix(prefix)): tensor
        for name, tensor in checkpoint.weights.items()
        if name.startswith(prefix) and "lora_" not in name
    }
    assert stored.keys() == before.keys()
    for name, tensor in stored.items():
        # The observation token is a row behind the vocabulary.
        assert torch.equal(tensor[: len(before[name])], before[name]), name
    updates = [tensor for name, tensor in checkpoint.weights.items() if "lora_B" in name]
    assert bool(updates) == (kind == "lora")
    assert not updates or any(bool(tensor.any()) for tensor in updates)
    policy = load_policy(path, batch_invariant=False)
    observation = make_observation(0)
    chunk = positions(policy, told(observation))
    assert chunk.shape == (8, 3)
    assert np.isfinite(chunk).all()
    assert np.abs(chunk - positions(policy, told(make_observation(1)))).max() > 0
    assert np.abs(chunk - positions(policy, told(observation, "Which colour?"))).max() > 0
    # The same command goes on, or sees that it is done, without the folder.
    assert train(config, tmp_path / "run") == path
    require_that_padding_is_not_read(policy)


@pytest.mark.parametrize("kind", ["lora", pytest.param("frozen", marks=pytest.mark.slow)])
def test_a_policy_begins_with_one_and_needs_no_folder(
    kind: AdaptationKind, demonstration_folder: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    folders.write_vision_language_folder("smolvlm", folder)
    first = train(acting(shape_on(folder, kind), demonstration_folder), tmp_path / "first")
    shutil.rmtree(folder)
    # The recipe's own shape is the kind's default.
    fresh = VisionLanguageActionTrainConfig(
        data=str(demonstration_folder), init=str(first), **{**_RUN, "num_steps": 1}
    )
    again = train(fresh, tmp_path / "again")
    before, after = read_checkpoint(first), read_checkpoint(again)
    assert after.config.model == before.config.model
    assert after.weights.keys() == before.weights.keys()
    for name, tensor in after.weights.items():
        # Of the backbone only its updates learn, as they did before.
        is_fixed = name.startswith("model.backbone.model.") and "lora_" not in name
        assert torch.equal(tensor, before.weights[name]) or not is_fixed, name
        # One step on the way, not a beginning at random.
        assert (tensor - before.weights[name]).abs().max() < 0.05, name
    shutil.rmtree(first.parent.parent)
    assert train(fresh, tmp_path / "again") == again


def require_that_padding_is_not_read(policy: Policy) -> None:
    network, prompts = policy.network, policy.prompts
    assert isinstance(network, VisionLanguagePolicy)
    assert prompts is not None
    token_S = torch.from_numpy(prompts.encode("Reach"))
    images = {name: torch.rand(1, 3, 40, 40) for name in network.picture_names}
    words_S = token_S[token_S >= 0]
    assert len(words_S) < len(token_S)
    with torch.no_grad():
        padded, alone = (
            network.model.observe(network.inputs(images, tokens[None]))
            for tokens in (token_S, words_S)
        )
    for long_BSD, short_BSD in zip(padded.layers, alone.layers, strict=True):
        expected = short_BSD[:, -len(words_S) :]
        torch.testing.assert_close(long_BSD[:, -len(words_S) :], expected, atol=1e-5, rtol=1e-5)


def test_pictures_come_as_its_processor_makes_them(tmp_path: Path) -> None:
    """Qwen's patches against transformers' own processor; normalised by what the folder says."""
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    folders.write_vision_language_folder("qwen3_vl", tmp_path)
    backbone = read_vision_language_folder(HuggingFaceVisionLanguage(path=str(tmp_path)))
    assert backbone.image_mean == (0.5, 0.4, 0.3)
    rgb = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    processor = Qwen2VLImageProcessorPil(
        patch_size=8,
        merge_size=2,
        temporal_patch_size=2,
        image_mean=backbone.image_mean,
        image_std=backbone.image_std,
        size={"shortest_edge": 32 * 32, "longest_edge": 32 * 32},
    )
    expected = processor(rgb, return_tensors="pt")
    taking = backbone.pictures(32)
    assert taking.tokens_per_image == 4
    pixels = torch.from_numpy(rgb).permute(2, 0, 1)[None].float() / 127.5 - 1
    token = torch.full((1, 4), 4)
    inputs = taking.inputs(pixels, token, token > 0, image_token=4)
    torch.testing.assert_close(inputs.images, expected["pixel_values"], atol=1e-4, rtol=1e-4)
    assert torch.equal(inputs.extras["image_grid_thw"], expected["image_grid_thw"])


def test_the_words_of_a_folder_are_written_as_its_template_does(tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    from trainer.data.text.chat_format import FormattedTemplate
    from trainer.data.text.documents import Turn
    from trainer.data.text.tokenizer import TextTokenizer

    folders.write_language_folder(tmp_path)
    language = read_language_folder(HuggingFaceLanguage(path=str(tmp_path)))
    # A resume could not drop the same.
    assert language.shape["overrides"]["attention_dropout"] == 0.0
    theirs: Any = AutoTokenizer.from_pretrained(tmp_path)
    template = FormattedTemplate(TextTokenizer(tmp_path), language.chat, 0)
    turns = [
        Turn(role="system", text="Reach"),
        Turn(role="user", text="Which colour?"),
        Turn(role="assistant", text="red"),
        Turn(role="user", text="green <|im_end|>"),
    ]
    for part in (turns[:3], turns[1:3]):
        messages = [{"role": turn.role, "content": turn.text} for turn in part]
        expected = theirs.apply_chat_template(messages, tokenize=True, return_dict=True)
        tokens, said = template.encode_turns(part, "")
        assert tokens == list(expected["input_ids"])
        learnt = [token for token, is_said in zip(tokens, said, strict=True) if is_said]
        assert theirs.decode(learnt) == "red<|im_end|>"
    # What a document spells is no special token.
    tokens = template.encode_prompt(turns)
    assert tokens.count(theirs.eos_token_id) == 4
    folders.write_language_folder(tmp_path / "base", template=None)
    plain = read_language_folder(HuggingFaceLanguage(path=str(tmp_path / "base"))).chat
    assert (plain.begin, plain.after_user, plain.after_assistant) == ("<bos>", "\n", "<|im_end|>")


@pytest.mark.parametrize("kind", ["frozen", "lora"])
def test_a_language_model_learns_to_see_and_then_to_act(
    language_folder: Path,
    pictures: Path,
    demonstration_folder: Path,
    kind: AdaptationKind,
    make_observation: MakeObservation,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    folder = Path(shutil.copytree(language_folder, tmp_path / "folder"))
    path = train(seeing(folder, pictures, kind), tmp_path / "vlm")
    before = published(folder)
    shutil.rmtree(folder)
    checkpoint = read_vision_language_checkpoint(path)
    for name, tensor in checkpoint.weights.items():
        own = without_updates(name.removeprefix("language.model."))
        if own in before:
            assert torch.equal(tensor, before[own]), name
    assert main(["sample", str(path), "Which colour?", "--image", str(pictures / "0.png")]) == 0
    assert main(["inspect", str(path)]) == 0
    assert "tokens per image" in capfd.readouterr().out

    language = HuggingFaceLanguage(context_length=96)
    shape = VisionLanguageActionShape(
        language=language,
        vision=_VISION,
        expert=EXPERT,
        bidirectional_prefix=False,
        image_size=16,
        instruction_tokens=24,
        repeats=2,
    )
    still = OptimizerConfig(warmup_steps=0, learning_rate=1e-12)
    config = acting(
        shape, demonstration_folder, init=str(path), optimizer=still, ema=EmaConfig(max_decay=0.0)
    )
    policy = load_policy(train(config, tmp_path / "vla"), batch_invariant=False)
    assert np.isfinite(positions(policy, told(make_observation(0)))).all()
    # Low-rank updates have become part of the matrices that the policy trains in full.
    weights = dict(policy.network.named_parameters())
    name = "model.layers.0.self_attn.q_proj.weight"
    added = weights[f"model.backbone.language.model.{name}"] - before[name]
    if kind == "frozen":
        assert added.abs().max() < 1e-9
    else:
        middle = f"language.model.{name.removesuffix('.weight')}"
        down, up = (
            checkpoint.weights[f"{middle}.lora_{side}.default.weight"] for side in ("A", "B")
        )
        assert up.any()
        torch.testing.assert_close(added, 32.0 / 2 * up @ down, atol=1e-6, rtol=1e-4)


def test_a_policy_keeps_the_first_blocks_of_a_language_model(
    language_folder: Path,
    demonstration_folder: Path,
    make_observation: MakeObservation,
    tmp_path: Path,
) -> None:
    folder = Path(shutil.copytree(language_folder, tmp_path / "folder"))
    shape = VisionLanguageActionShape(
        language=HuggingFaceLanguage(
            path=str(folder), num_blocks=1, adaptation=AdaptationConfig(kind="lora", rank=2)
        ),
        vision=_VISION,
        expert=replace(EXPERT, transformer=replace(EXPERT.transformer, depth=1)),
        image_size=16,
        instruction_tokens=24,
        repeats=2,
    )
    config = acting(shape, demonstration_folder)
    path = train(config, tmp_path / "run")
    before = published(folder)
    shutil.rmtree(folder)
    prefix = "model.backbone.language.model."
    kept = {
        without_updates(name.removeprefix(prefix)): tensor
        for name, tensor in read_checkpoint(path).weights.items()
        if name.startswith(prefix) and "lora_" not in name
    }
    assert before.keys() - kept.keys() == {each for each in before if ".layers.1." in each}
    for name, tensor in kept.items():
        assert torch.equal(tensor, before[name]), name
    # The same command sees that it is done, without the folder.
    assert train(config, tmp_path / "run") == path
    policy = load_policy(path, batch_invariant=False)
    assert np.isfinite(positions(policy, told(make_observation(0)))).all()


def test_rates_by_module_freeze_and_cost_no_moments(
    language_folder: Path, pictures: Path, demonstration_folder: Path, tmp_path: Path
) -> None:
    from trainer.run_directory import RunDirectory

    path = train(seeing(language_folder, pictures, "full"), tmp_path / "vlm")
    shape = VisionLanguageActionShape(
        language=HuggingFaceLanguage(context_length=96),
        vision=_VISION,
        expert=EXPERT,
        image_size=16,
        instruction_tokens=24,
    )
    rates = ("model.backbone=0", "model.backbone.connector=0.5", "model.expert=2")
    config = acting(
        shape,
        demonstration_folder,
        init=str(path),
        optimizer=OptimizerConfig(warmup_steps=0, learning_rate=1e-2, multipliers=rates),
    )
    run = tmp_path / "vla"
    stored = read_checkpoint(train(config, run)).weights
    changed = {
        name
        for name, tensor in read_vision_language_checkpoint(path).weights.items()
        if not torch.equal(stored[f"model.backbone.{name}"], tensor)
    }
    assert changed
    assert all(name.startswith("connector.") for name in changed)

    (run / "checkpoints" / "final").unlink()
    resolved = read_checkpoint(run / "checkpoints" / "step_000002").config
    assert isinstance(resolved, VisionLanguageActionTrainConfig)
    with open_vision_language_action_stage(resolved, RunDirectory(root=run))() as stage:
        learner = stage.learner
        assert isinstance(learner, VisionLanguageActionLearner)
        groups = {group["name"]: group["params"] for group in learner.optimizers.groups}
        assert {name.removesuffix(", not decayed") for name in groups} == {
            "model.backbone.connector",
            "model.expert",
        }
        batch = next(iter(stage.batches(0, 1)))
        stage.step(batch, 0)
        num_trained = sum(p.numel() for group in groups.values() for p in group)
        state = learner.optimizers.state()
        averages = [state[name] for name in state if name.endswith("/exp_avg")]
        assert sum(average.numel() for average in averages) == num_trained
        assert {group["lr"] for group in learner.optimizers.groups} == {5e-3, 2e-2}
        names = learner.state()
        assert not any(name.startswith("ema/model.backbone.language.") for name in names)
