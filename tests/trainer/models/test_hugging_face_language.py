"""Language models of Hugging Face, of a small shape, saved to disk and adapted."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from tests.trainer.hugging_face_folders import write_language_folder
from trainer.models.action.configuration import (
    ActionSpaceConfig,
    CrossAttentionConfig,
    ObservationTokenConfig,
)
from trainer.models.adaptation import AdaptationConfig, AdaptationKind
from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face_language import (
    HuggingFaceLanguageConfig,
    HuggingFaceLanguageModel,
)
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.generation import GenerationConfig, generate
from trainer.models.model_folder import ModelFolderError, read_model, write_model
from trainer.models.parameter_groups import parameter_groups
from trainer.models.presets import VISION_PRESETS
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.models.vision_language_action import (
    ActionBatch,
    VisionLanguageAction,
    VisionLanguageActionConfig,
)
from trainer.requirements import ConfigurationError

transformers = pytest.importorskip("transformers")
pytest.importorskip("peft")

SHAPE: dict[str, Any] = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "tie_word_embeddings": True,
    "pad_token_id": 0,
    "eos_token_id": 63,
}
IMAGE = 62
EXPERT = ObservationTokenConfig(
    transformer=TransformerConfig(width=32, depth=1, num_heads=2), num_layers=2
)
SPACE = ActionSpaceConfig(action_size=4, chunk_length=3)


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small Llama as Hugging Face saves it."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("llama")
    LlamaForCausalLM(LlamaConfig(**SHAPE)).save_pretrained(path)
    return path


def model(folder: Path, kind: AdaptationKind = "full") -> HuggingFaceLanguageConfig:
    return HuggingFaceLanguageConfig(
        path=str(folder), adaptation=AdaptationConfig(kind=kind, rank=4)
    )


def seeing(language: HuggingFaceLanguageConfig) -> VisionLanguageConfig:
    return VisionLanguageConfig(language=language, vision=VISION_PRESETS["tiny"], image_token=IMAGE)


def inputs(filler: int | None = None) -> VisionLanguageInput:
    """An image of four tokens a sample, three words, and padding if there is a filler."""
    row = [IMAGE] * 4 + [5, 6, 7] + ([] if filler is None else [filler] * 2)
    token = torch.tensor([row, row])
    valid = torch.ones_like(token, dtype=torch.bool)
    valid[:, 7:] = False
    return VisionLanguageInput(
        token_BS=token, valid_BS=None if filler is None else valid, images=random(2, 3, 32, 32)
    )


def test_it_says_and_writes_what_transformers_does(folder: Path) -> None:
    from transformers import LlamaForCausalLM

    reference: Any = LlamaForCausalLM.from_pretrained(folder).eval()
    language = HuggingFaceLanguageModel(model(folder)).eval()
    token = torch.tensor([[5, 6, 7, 8], [9, 10, 11, 12]])
    with torch.no_grad():
        expected = reference(token).logits
        torch.testing.assert_close(language.logits(language(token).hidden_BSD), expected)
    options: Any = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = reference.generate(token, attention_mask=torch.ones_like(token), **options)
    greedy = GenerationConfig(max_new_tokens=6, temperature=0)
    assert torch.equal(generate(language, token, greedy), expected[:, 4:])
    # A shorter prompt, padded in front, goes on as it would alone.
    padded = torch.cat([torch.zeros(2, 2, dtype=torch.long), token], dim=1)
    valid = padded != 0
    assert torch.equal(generate(language, padded, greedy, valid_BS=valid), expected[:, 4:])


def test_its_first_blocks_say_what_they_do_in_all_of_it(folder: Path, tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM

    reference: Any = LlamaForCausalLM.from_pretrained(folder).eval()
    language = HuggingFaceLanguageModel(replace(model(folder), num_blocks=1)).eval()
    assert language.depth == len(list(language.blocks())) == 1
    token = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        after_first = reference(token, output_hidden_states=True).hidden_states[1]
        expected = reference.model.norm(after_first)
        torch.testing.assert_close(language(token).hidden_BSD, expected)
    greedy = GenerationConfig(max_new_tokens=3, temperature=0)
    said = generate(language, token, greedy)
    write_model(language, tmp_path / "model")
    assert torch.equal(generate(read_model(tmp_path / "model"), token, greedy), said)


def test_it_drops_nothing_by_chance_whatever_its_folder_says(tmp_path: Path) -> None:
    write_language_folder(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["attention_dropout"] == 0.1
    language = HuggingFaceLanguageModel(model(tmp_path))
    token = torch.tensor([[5, 6, 7, 8]])
    with torch.no_grad():
        torch.testing.assert_close(
            language.train()(token).hidden_BSD, language.eval()(token).hidden_BSD
        )


def test_pickled_weights_are_not_read(tmp_path: Path) -> None:
    write_language_folder(tmp_path)
    stored = tmp_path / "model.safetensors"
    torch.save(safetensors.torch.load_file(stored), tmp_path / "pytorch_model.bin")
    stored.unlink()
    with pytest.raises(ConfigurationError, match="no AutoModelForCausalLM that transformers reads"):
        HuggingFaceLanguageModel(model(tmp_path))


def test_memory_that_runs_out_is_no_unreadable_model(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def from_pretrained(*_: object, **__: object) -> Tensor:
        return torch.empty(2**44)

    monkeypatch.setattr(transformers.AutoModelForCausalLM, "from_pretrained", from_pretrained)
    with pytest.raises(RuntimeError, match="not enough memory|can't allocate memory"):
        HuggingFaceLanguageModel(model(folder))


def test_our_images_stand_among_its_words_and_padding_is_not_read(folder: Path) -> None:
    network = VisionLanguageModel(seeing(model(folder))).eval()

    def observation(data: VisionLanguageInput) -> Tensor:
        with torch.no_grad():
            return network.features(data, num_layers=2, with_observation_token=True).observation_B1F

    alone = observation(inputs())
    assert alone.shape == (2, 1, 64)
    for filler in (3, 4):
        torch.testing.assert_close(observation(inputs(filler)), alone, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(alone[0], alone[1]), "the two images differ"


@pytest.mark.parametrize("kind", ["full", "lora", "frozen"])
def test_as_much_of_it_trains_as_was_asked_for(
    folder: Path, kind: AdaptationKind, tmp_path: Path
) -> None:
    torch.manual_seed(0)
    policy = VisionLanguageAction(
        VisionLanguageActionConfig(backbone=seeing(model(folder, kind)), expert=EXPERT, space=SPACE)
    ).train()
    policy.checkpoint_activations()
    multipliers = {"backbone": 0.1, "backbone.vision": 0.0}
    groups = parameter_groups(policy, learning_rate=1e-2, weight_decay=0.1, multipliers=multipliers)
    rates = {group["name"]: group["lr"] for group in groups}
    assert rates["rest"] == 1e-2
    assert rates["backbone"] == pytest.approx(1e-3)
    assert not any("vision" in name for name in rates)
    before = {name: tensor.clone() for name, tensor in policy.state_dict().items()}
    optimizer = torch.optim.AdamW(groups)
    batch = ActionBatch(inputs=inputs(3), chunk_BTA=random(2, 3, 4), weight_BT=torch.ones(2, 3))
    for seed in range(2):
        optimizer.zero_grad()
        policy(batch, generator=torch.Generator().manual_seed(seed)).backward()
        optimizer.step()
    changed = {
        name
        for name, tensor in policy.state_dict().items()
        if not torch.equal(tensor, before[name])
    }
    assert not any(name.startswith("backbone.vision.") for name in changed)
    assert "backbone.connector.projection.weight" in changed
    language = {name for name in changed if name.startswith("backbone.language.")}
    if kind == "frozen":
        assert not language
    elif kind == "lora":
        assert language
        assert all("lora_" in name for name in language)
    else:
        assert "backbone.language.model.model.layers.0.self_attn.q_proj.weight" in language

    write_model(policy.eval(), tmp_path / "policy")
    loaded = read_model(tmp_path / "policy")
    noise = random(2, 3, 4)
    assert torch.equal(loaded.sample(inputs(), noise), policy.sample(inputs(), noise))


def test_what_cannot_be_is_said_before_it_is_tried(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="^image_token: expected a token of the voc"):
        VisionLanguageModel(
            VisionLanguageConfig(
                language=model(folder), vision=VISION_PRESETS["tiny"], image_token=64
            )
        )
    with pytest.raises(ConfigurationError, match="^gguf_file: expected a path beside it"):
        HuggingFaceLanguageConfig(model_type="llama", gguf_file="a.gguf")
    with pytest.raises(ConfigurationError, match="^num_blocks: expected a path beside it"):
        HuggingFaceLanguageConfig(model_type="llama", num_blocks=1)
    with pytest.raises(ConfigurationError, match="^num_blocks: expected at most 2, which the mod"):
        HuggingFaceLanguageModel(replace(model(folder), num_blocks=3))
    shape = TransformerConfig(width=32, depth=2, num_heads=2, causal=False)
    with pytest.raises(ConfigurationError, match="^source: expected 'layers'"):
        VisionLanguageAction(
            VisionLanguageActionConfig(
                backbone=seeing(model(folder)),
                expert=CrossAttentionConfig(transformer=shape),
                space=SPACE,
            )
        )
    network = VisionLanguageModel(seeing(model(folder)))
    with pytest.raises(ConfigurationError, match=r"'visoin'.*did you mean 'vision'"):
        parameter_groups(network, learning_rate=1.0, weight_decay=0.0, multipliers={"visoin": 0.1})
    with pytest.raises(ModelFolderError, match=r"config\.json: not a network"):
        read_model(tmp_path)
