"""The smallest shapes of networks that learn, for tests that train them."""

from __future__ import annotations

from dataclasses import replace

from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.vision.configuration import (
    ConvolutionalTowerConfig,
    VisionTransformerConfig,
)
from trainer.vision_language_action_configuration import ExpertShape

TRANSFORMER = TransformerConfig(width=32, depth=2, num_heads=2, feed_forward_width=64)
LANGUAGE = LanguageConfig(transformer=TRANSFORMER, vocabulary_size=320, context_length=64)
VISION = VisionTransformerConfig(
    width=32,
    depth=1,
    num_heads=2,
    feed_forward_width=64,
    patch_size=8,
    image_size=32,
    shuffle_factor=2,
)
TOWER = ConvolutionalTowerConfig(
    stem_channels=8, channels=16, num_keypoints=4, width=32, tokens_per_image=3, image_size=32
)
EXPERT = ExpertShape(transformer=replace(TRANSFORMER, causal=False))
