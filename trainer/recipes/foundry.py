"""VLA Foundry's chain in its shapes and with its values; not trained to its end by us.

As its repository, its technical report (arXiv:2604.19728) and what others published of it have
them. Where they say nothing, as of the learning rate's end, its code's defaults stand.
"""

from __future__ import annotations

from dataclasses import replace

from trainer.data.configuration import AugmentationConfig, NormalizationConfig
from trainer.history_configuration import HistoryConfig
from trainer.hugging_face_configuration import HuggingFaceVisionLanguage
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.action.configuration import TimeConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.models.presets import LANGUAGE_PRESETS, SMOLVLM_VOCABULARY, VISION_PRESETS
from trainer.policy_configuration import ServingConfig
from trainer.recipes.language import tiny_lm
from trainer.recipes.vision_language import TINY_VISION
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.vision_language_action_configuration import (
    ExpertShape,
    HuggingFaceActionShape,
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_configuration import VisionLanguageShape, VisionLanguageTrainConfig

_LANGUAGE = replace(LANGUAGE_PRESETS["1b"], vocabulary_size=SMOLVLM_VOCABULARY)
_CAMERAS = ("scene_right_0", "scene_left_0", "wrist_left_plus", "wrist_right_minus")
_NO_AVERAGE = EmaConfig(max_decay=0)
# The picture of the step before and now's, as one past action; eight actions follow now's own.
_HISTORY = HistoryConfig(frames=(-1, 0), past_steps=1, proprioception=False)
_CHUNK_LENGTH = 9


def foundry_lm() -> LanguageTrainConfig:
    """VLA Foundry's language model of 1.2 B parameters, on a trillion tokens of text."""
    return LanguageTrainConfig(
        name="foundry_lm",
        num_samples=500_000_000,
        batch_size=512,
        micro_batch_size=8,
        validation_documents=64,
        validation_every=5000,
        save_state_every=1000,
        model=_LANGUAGE,
        optimizer=OptimizerConfig(
            learning_rate=3e-4,
            warmup_steps=1000,
            schedule="constant_decay",
            final_learning_rate_fraction=0.0,
            weight_decay=0.01,
            beta2=0.95,
        ),
        ema=_NO_AVERAGE,
    )


def foundry_vlm() -> VisionLanguageTrainConfig:
    """VLA Foundry's vision-language model of 1.3 B parameters, on what foundry_lm made (--init)."""
    return VisionLanguageTrainConfig(
        name="foundry_vlm",
        num_samples=200_000_000,
        batch_size=512,
        micro_batch_size=8,
        validation_documents=64,
        validation_every=5000,
        save_state_every=1000,
        model=VisionLanguageShape(
            language=_LANGUAGE, vision=VISION_PRESETS["base"], image_size=224
        ),
        optimizer=OptimizerConfig(
            learning_rate=1e-4,
            warmup_steps=1000,
            final_learning_rate_fraction=0.0,
            weight_decay=0.01,
            beta2=0.95,
        ),
        ema=_NO_AVERAGE,
    )


def foundry_vla() -> VisionLanguageActionTrainConfig:
    """VLA Foundry's policy of 1.7 B parameters, on what foundry_vlm made (--init).

    It sees two pictures of each of four cameras and knows a past action. To train it further on
    one task: --optimizer.learning-rate 5e-6 --batch-size 512.
    """
    return VisionLanguageActionTrainConfig(
        name="foundry_vla",
        cameras=_CAMERAS,
        chunk_length=_CHUNK_LENGTH,
        history=_HISTORY,
        num_samples=102_400_000,
        batch_size=1024,
        micro_batch_size=8,
        validation_every=5000,
        save_state_every=1000,
        model=VisionLanguageActionShape(
            language=_LANGUAGE,
            vision=VISION_PRESETS["base"],
            bidirectional_prefix=False,
            image_size=224,
            instruction_tokens=96,
            expert=_expert(num_layers=4),
            time=TimeConfig(num_levels=1000),
            repeats=8,
            action_clamp=1.5,
            input_noise=0.05,
        ),
        normalization=NormalizationConfig(
            scope="per_timestep",
            translation_floor_m=0.01,
            rotation_floor=0.01,
            width_floor_m=0.01,
        ),
        # 224 of 256 pixels; here as much at least, enlarged to the whole. Noise on what is known
        # is the model's input noise.
        augmentation=AugmentationConfig(
            shift_pixels=0,
            crop_fraction=0.875,
            brightness=0.2,
            contrast=0.4,
            saturation=0.2,
            hue=0.05,
            proprioception_noise=0.0,
        ),
        optimizer=OptimizerConfig(
            learning_rate=5e-5,
            warmup_steps=1000,
            final_learning_rate_fraction=0.0,
            weight_decay=1e-8,
            beta2=0.95,
        ),
        ema=_NO_AVERAGE,
    )


def foundry_vla_qwen() -> VisionLanguageActionTrainConfig:
    """VLA Foundry's policy on Qwen3-VL-2B, all of which is trained.

    --model.backbone.path is its folder.
    """
    recipe = foundry_vla()
    model = recipe.model
    assert isinstance(model, VisionLanguageActionShape)
    return replace(
        recipe,
        name="foundry_vla_qwen",
        num_samples=100_000_000,
        model=HuggingFaceActionShape(
            backbone=HuggingFaceVisionLanguage(),
            expert=_expert(num_layers=1),
            image_size=224,
            instruction_tokens=96,
            time=model.time,
            repeats=model.repeats,
            action_clamp=model.action_clamp,
            input_noise=model.input_noise,
        ),
    )


def tiny_foundry_vla() -> VisionLanguageActionTrainConfig:
    """A policy of the kind of foundry_vla, of a laptop's minutes: it knows its past.

    Its vision-language model has the shape of tiny_vlm, from which it can begin (--init). Half as
    many of Heun's steps ask the expert about as often as foundry_vla is asked.
    """
    recipe = foundry_vla()
    assert isinstance(recipe.model, VisionLanguageActionShape)
    return replace(
        recipe,
        name="tiny_foundry_vla",
        cameras=("scene_right_0", "wrist_right_minus"),
        num_samples=None,
        num_steps=900,
        batch_size=32,
        micro_batch_size=None,
        chunk_length=16,
        history=HistoryConfig(frames=(-3, 0), past_steps=2),
        validation_every=300,
        save_state_every=200,
        weights_format="float16",
        model=replace(
            recipe.model,
            language=tiny_lm().model,
            vision=TINY_VISION,
            image_size=96,
            instruction_tokens=32,
            expert=ExpertShape(
                transformer=TransformerConfig(width=128, depth=4, num_heads=4),
                reads="observation_token",
                num_layers=2,
                time_conditioning="add",
            ),
        ),
        optimizer=OptimizerConfig(),
        ema=EmaConfig(),
        serving=ServingConfig(num_flow_steps=4, solver="heun"),
    )


def _expert(*, num_layers: int) -> ExpertShape:
    """325 million parameters where four layers of 2048 numbers make the token, 313 where one."""
    return ExpertShape(
        transformer=LANGUAGE_PRESETS["400m"].transformer,
        reads="observation_token",
        num_layers=num_layers,
        time_conditioning="add",
    )
