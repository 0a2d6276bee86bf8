"""Shapes by name: those that everyone trains, and one that a CI machine trains in minutes.

Published counts are of VLA Foundry's presets and its technical report (arXiv:2604.19728, table 3).
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from trainer.models.action.configuration import (
    ActionSpaceConfig,
    FlowConfig,
    ObservationTokenConfig,
    TimeConfig,
)
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language import VisionLanguageConfig
from trainer.models.vision_language_action import VisionLanguageActionConfig

# GPT-NeoX's tokenizer rounded up to a multiple of 256, and SmolVLM2's with its special tokens.
GPT_NEOX_VOCABULARY = 50_432
SMOLVLM_VOCABULARY = 49_280
SMOLVLM_IMAGE_TOKEN = 49_190


def _language(width: int, depth: int, num_heads: int, **rest: Any) -> LanguageConfig:
    """LayerNorm, SwiGLU, rotary positions, no biases, no shared heads: the open_lm family."""
    return LanguageConfig(
        transformer=TransformerConfig(width=width, depth=depth, num_heads=num_heads, norm="layer"),
        vocabulary_size=GPT_NEOX_VOCABULARY,
        **rest,
    )


LANGUAGE_PRESETS = {
    "tiny": LanguageConfig(
        transformer=TransformerConfig(width=64, depth=2, num_heads=2, norm="layer"),
        vocabulary_size=512,
        context_length=128,
    ),
    "11m": _language(96, 8, 4),
    "100m": _language(512, 12, 8, post_embed_norm=True),
    "400m": _language(1024, 24, 16),
    "1b": _language(2048, 24, 16),
}

VISION_PRESETS = {
    "tiny": VisionTransformerConfig(
        width=64,
        depth=2,
        num_heads=2,
        feed_forward_width=128,
        patch_size=8,
        image_size=32,
        shuffle_factor=2,
    ),
    "base": VisionTransformerConfig(
        width=768,
        depth=12,
        num_heads=12,
        feed_forward_width=3072,
        patch_size=14,
        image_size=224,
        shuffle_factor=2,
    ),
    "so400m": VisionTransformerConfig(
        width=1152,
        depth=27,
        num_heads=16,
        feed_forward_width=4304,
        patch_size=14,
        image_size=224,
    ),
}

VISION_LANGUAGE_PRESETS = {
    "tiny": VisionLanguageConfig(
        language=LANGUAGE_PRESETS["tiny"], vision=VISION_PRESETS["tiny"], image_token=511
    ),
    "foundry_1.3b": VisionLanguageConfig(
        language=replace(LANGUAGE_PRESETS["1b"], vocabulary_size=SMOLVLM_VOCABULARY),
        vision=VISION_PRESETS["base"],
        image_token=SMOLVLM_IMAGE_TOKEN,
    ),
}

# Two arms: two positions, two rotations of six numbers, two grippers; one past action, the
# present one and eight to come.
_FOUNDRY_SPACE = ActionSpaceConfig(action_size=20, chunk_length=10)
_FOUNDRY_FLOW = FlowConfig(
    time=TimeConfig(num_levels=1000), repeats=8, clamp=1.5, input_noise=0.05, num_steps=10
)

# Qwen/Qwen3-VL-2B: its published configuration.
QWEN3_VL_2B = HuggingFaceConfig(
    model_type="qwen3_vl",
    overrides={
        "tie_word_embeddings": True,
        "text_config": {
            "model_type": "qwen3_vl_text",
            "vocab_size": 151_936,
            "hidden_size": 2048,
            "intermediate_size": 6144,
            "num_hidden_layers": 28,
            "num_attention_heads": 16,
            "num_key_value_heads": 8,
            "head_dim": 128,
            "max_position_embeddings": 262_144,
            "tie_word_embeddings": True,
            "rope_parameters": {
                "rope_type": "default",
                "rope_theta": 5_000_000.0,
                "mrope_section": [24, 20, 20],
                "mrope_interleaved": True,
            },
        },
        "vision_config": {
            "model_type": "qwen3_vl",
            "depth": 24,
            "hidden_size": 1024,
            "num_heads": 16,
            "intermediate_size": 4096,
            "out_hidden_size": 2048,
            "patch_size": 16,
            "deepstack_visual_indexes": [5, 11, 17],
        },
    },
)


def _observation_token(num_layers: int) -> ObservationTokenConfig:
    return ObservationTokenConfig(
        transformer=LANGUAGE_PRESETS["400m"].transformer,
        num_layers=num_layers,
        time_conditioning="add",
    )


VISION_LANGUAGE_ACTION_PRESETS = {
    "tiny": VisionLanguageActionConfig(
        backbone=VISION_LANGUAGE_PRESETS["tiny"],
        expert=ObservationTokenConfig(
            transformer=LANGUAGE_PRESETS["tiny"].transformer, num_layers=2, num_times=100
        ),
        space=_FOUNDRY_SPACE,
        objective=FlowConfig(repeats=4),
    ),
    "foundry_1.7b": VisionLanguageActionConfig(
        backbone=VISION_LANGUAGE_PRESETS["foundry_1.3b"],
        expert=_observation_token(4),
        space=_FOUNDRY_SPACE,
        objective=_FOUNDRY_FLOW,
    ),
    "qwen3_vl_2b": VisionLanguageActionConfig(
        backbone=QWEN3_VL_2B,
        expert=_observation_token(1),
        space=_FOUNDRY_SPACE,
        objective=_FOUNDRY_FLOW,
    ),
}
