"""Backbones of Hugging Face, made from small configurations and saved to disk."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from trainer.models.action.configuration import (
    ActionSpaceConfig,
    CrossAttentionConfig,
    ObservationTokenConfig,
)
from trainer.models.backbone import VisionLanguageInput
from trainer.models.hugging_face import HuggingFaceBackbone, HuggingFaceConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.models.vision_language_action import (
    ActionBatch,
    VisionLanguageAction,
    VisionLanguageActionConfig,
)
from trainer.requirements import ConfigurationError

pytest.importorskip("transformers")

WIDTH = 32
TEXT = {
    "vocab_size": 64,
    "hidden_size": WIDTH,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
}
VISION = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "patch_size": 8,
    "image_size": 16,
}
QWEN = HuggingFaceConfig(
    model_type="qwen3_vl",
    overrides={
        "image_token_id": 60,
        "video_token_id": 61,
        "vision_start_token_id": 62,
        "vision_end_token_id": 63,
        "text_config": {
            **TEXT,
            "model_type": "qwen3_vl_text",
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 10_000.0,
                "mrope_section": [2, 1, 1],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": 2,
            "hidden_size": 16,
            "num_heads": 2,
            "intermediate_size": 32,
            "out_hidden_size": WIDTH,
            "patch_size": 8,
            "num_position_embeddings": 16,
            "deepstack_visual_indexes": [0],
        },
    },
)
PALIGEMMA = HuggingFaceConfig(
    model_type="paligemma",
    overrides={
        "image_token_id": 60,
        "text_config": {**TEXT, "model_type": "gemma", "pad_token_id": 0},
        "vision_config": {**VISION, "model_type": "siglip_vision_model"},
        "projection_dim": WIDTH,
    },
)
SMOLVLM = HuggingFaceConfig(
    model_type="smolvlm",
    overrides={
        "image_token_id": 60,
        "scale_factor": 2,
        "pad_token_id": 0,
        "text_config": {**TEXT, "model_type": "llama", "pad_token_id": 0},
        "vision_config": {**VISION, "model_type": "smolvlm_vision"},
    },
)
BACKBONES = {"qwen": QWEN, "paligemma": PALIGEMMA, "smolvlm": SMOLVLM}
every_backbone = pytest.mark.parametrize("kind", list(BACKBONES))


def random(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


def inputs(kind: str, num_padding: int = 0, filler: int = 3) -> VisionLanguageInput:
    """One 16 x 16 image a sample as each family's processor hands it on, and two words."""
    num_image_tokens = {"qwen": 1, "paligemma": 4, "smolvlm": 1}[kind]
    row = [60] * num_image_tokens + [5, 6] + [filler] * num_padding
    token = torch.tensor([row, row])
    valid = torch.ones_like(token, dtype=torch.bool)
    if num_padding:
        valid[:, -num_padding:] = False
    images, extras = random(2, 3, 16, 16), {}
    if kind == "qwen":
        # Four patches a sample, each two frames deep.
        images = random(8, 3 * 2 * 8 * 8)
        extras = {
            "image_grid_thw": torch.tensor([[1, 2, 2]] * 2),
            "mm_token_type_ids": (token == 60).int(),
        }
    if kind == "paligemma":
        extras = {"token_type_ids": torch.zeros_like(token)}
    if kind == "smolvlm":
        images = images[:, None]
    return VisionLanguageInput(
        token_BS=token, valid_BS=valid if num_padding else None, images=images, extras=extras
    )


def backbone(kind: str) -> HuggingFaceBackbone:
    torch.manual_seed(0)
    return HuggingFaceBackbone(BACKBONES[kind]).eval()


@every_backbone
def test_the_observation_token_reads_the_text_and_no_padding(kind: str) -> None:
    network = backbone(kind)
    assert (network.width, network.depth) == (WIDTH, 3)

    def observation(data: VisionLanguageInput) -> Tensor:
        with torch.no_grad():
            features = network.features(data, num_layers=2, with_observation_token=True)
        assert len(features.layers) == 2
        assert features.layers[0].shape[1] == data.token_BS.shape[1] + 1
        return features.observation_B1F

    alone = observation(inputs(kind))
    assert alone.shape == (2, 1, 2 * WIDTH)
    for filler in (3, 4):
        torch.testing.assert_close(
            observation(inputs(kind, 3, filler)), alone, atol=1e-5, rtol=1e-5
        )
    assert not torch.allclose(alone[0], alone[1]), "the two images differ"


@every_backbone
def test_a_policy_on_it_trains_and_survives_its_disk(kind: str, tmp_path: Path) -> None:
    torch.manual_seed(0)
    config: Any = {
        "expert": ObservationTokenConfig(
            transformer=TransformerConfig(width=32, depth=1, num_heads=2), num_layers=2
        ),
        "space": ActionSpaceConfig(action_size=4, chunk_length=3),
    }
    policy = VisionLanguageAction(VisionLanguageActionConfig(backbone=BACKBONES[kind], **config))
    policy.checkpoint_activations()
    batch = ActionBatch(
        inputs=inputs(kind, 2), chunk_BTA=random(2, 3, 4), weight_BT=torch.ones(2, 3)
    )
    policy.train()
    policy(batch, generator=torch.Generator().manual_seed(0)).backward()
    assert isinstance(policy.backbone, HuggingFaceBackbone)
    for blocks in policy.backbone.blocks():
        for block in blocks:
            assert any(p.grad is not None for p in block.parameters())
    policy.backbone.model.save_pretrained(tmp_path)
    loaded = HuggingFaceBackbone(HuggingFaceConfig(path=str(tmp_path))).eval()
    # Saved with one observation token, it has gained another behind it.
    assert loaded.observation_token_id == policy.backbone.observation_token_id + 1
    with torch.no_grad():
        saved, read = (
            network.eval().features(inputs(kind), num_layers=1).layers[0]
            for network in (policy.backbone, loaded)
        )
    torch.testing.assert_close(saved, read)


def test_an_expert_reads_its_layers_but_not_its_keys() -> None:
    space = ActionSpaceConfig(action_size=4, chunk_length=3)
    shape = TransformerConfig(width=32, depth=2, num_heads=2, causal=False)
    layers = CrossAttentionConfig(transformer=shape, source="layers")
    policy = VisionLanguageAction(
        VisionLanguageActionConfig(backbone=QWEN, expert=layers, space=space)
    )
    assert policy.sample(inputs("qwen", 2), random(2, 3, 4)).shape == (2, 3, 4)
    with pytest.raises(ConfigurationError, match="^source: expected 'layers'"):
        VisionLanguageAction(
            VisionLanguageActionConfig(
                backbone=QWEN, expert=CrossAttentionConfig(transformer=shape), space=space
            )
        )
    with pytest.raises(ConfigurationError, match="^path, model_type: expected exactly one"):
        HuggingFaceConfig()
