"""Vision-language models: the second stage, each on one of the first or of Hugging Face's."""

from __future__ import annotations

from dataclasses import replace

from trainer.hugging_face_configuration import (
    HuggingFaceLanguage,
    HuggingFaceVision,
    HuggingFaceVisionLanguage,
)
from trainer.models.adaptation import AdaptationConfig
from trainer.models.vision.configuration import (
    ConvolutionalTowerConfig,
    VisionTransformerConfig,
)
from trainer.recipes.language import small_lm, tiny_lm
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.vision_language_configuration import (
    HuggingFaceAnswererShape,
    VisionLanguageShape,
    VisionLanguageTrainConfig,
)

# Sixteen tokens of an image of 96 pixels.
TINY_VISION = VisionTransformerConfig(
    width=128,
    depth=2,
    num_heads=4,
    feed_forward_width=384,
    patch_size=24,
    image_size=96,
    stem="convolutions",
)


def tiny_vlm() -> VisionLanguageTrainConfig:
    """A model that answers about pictures: the second stage, of a laptop's minutes.

    Its language model has the shape of tiny_lm, from which it can begin (--init).
    """
    return VisionLanguageTrainConfig(
        name="tiny_vlm",
        num_steps=250,
        batch_size=8,
        validation_documents=32,
        validation_every=125,
        save_state_every=125,
        model=VisionLanguageShape(language=tiny_lm().model, vision=TINY_VISION),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=30, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.98),
    )


SMALL_VISION = ConvolutionalTowerConfig(channels=96, num_keypoints=64, width=192)


def small_vlm() -> VisionLanguageTrainConfig:
    """Answers about pictures of all tasks' scenes: the second stage; begins with small_lm's."""
    return replace(
        tiny_vlm(),
        name="small_vlm",
        num_steps=400,
        batch_size=16,
        validation_every=200,
        save_state_every=200,
        model=VisionLanguageShape(language=small_lm().model, vision=SMALL_VISION),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=100, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.99),
    )


def smollm2_vlm() -> VisionLanguageTrainConfig:
    """A frozen language model of Hugging Face's learns to see by a small ViT and a connector.

    --model.language.path is its folder; of a GGUF file, --model.language.gguf-file its name.
    """
    return VisionLanguageTrainConfig(
        name="smollm2_vlm",
        num_steps=2000,
        batch_size=32,
        micro_batch_size=8,
        validation_documents=32,
        validation_every=200,
        save_state_every=200,
        model=VisionLanguageShape(
            language=HuggingFaceLanguage(adaptation=AdaptationConfig(kind="frozen")),
            vision=TINY_VISION,
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=100, weight_decay=0.05, beta2=0.95
        ),
    )


def tower_vlm() -> VisionLanguageTrainConfig:
    """A connector joins a frozen vision tower and a language model of Hugging Face's, frozen, too.

    --model.vision.path is the tower's folder (CLIP, SigLIP or DINOv2), --model.language.path the
    language model's; or --init a checkpoint of one of ours, which is then trained.
    """
    return replace(
        smollm2_vlm(),
        name="tower_vlm",
        model=VisionLanguageShape(
            language=HuggingFaceLanguage(adaptation=AdaptationConfig(kind="frozen")),
            vision=HuggingFaceVision(adaptation=AdaptationConfig(kind="frozen"), shuffle_factor=2),
            image_size=224,
        ),
    )


def vlm_on_hugging_face() -> VisionLanguageTrainConfig:
    """A vision-language model of Hugging Face's learns to answer: Qwen-VL, SmolVLM or PaliGemma.

    --model.backbone.path is its folder. Low-rank updates of it are trained.
    """
    return VisionLanguageTrainConfig(
        name="vlm_on_hugging_face",
        num_steps=2000,
        batch_size=32,
        micro_batch_size=8,
        validation_documents=32,
        validation_every=200,
        save_state_every=200,
        model=HuggingFaceAnswererShape(
            backbone=HuggingFaceVisionLanguage(adaptation=AdaptationConfig(kind="lora"))
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-4, warmup_steps=100, weight_decay=0.05, beta2=0.95
        ),
    )
