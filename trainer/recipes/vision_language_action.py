"""Policies that see, read and act: the third stage, each on one of the second."""

from __future__ import annotations

from dataclasses import replace

from trainer.action_token_configuration import ActionTokenShape
from trainer.data.text.chat_format import ChatFormat
from trainer.hugging_face_configuration import (
    HuggingFaceLanguage,
    HuggingFaceVision,
    HuggingFaceVisionLanguage,
)
from trainer.models.action.action_tokens import ActionTokenConfig
from trainer.models.adaptation import AdaptationConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.policy_configuration import ServingConfig
from trainer.recipes.language import small_lm, tiny_lm
from trainer.recipes.vision_language import SMALL_VISION, TINY_VISION
from trainer.training_configuration import OptimizerConfig
from trainer.vision_language_action_configuration import (
    ExpertShape,
    HuggingFaceActionShape,
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)


def tiny_vla() -> VisionLanguageActionTrainConfig:
    """A policy that sees, reads an instruction and acts: the third stage, of a laptop's minutes.

    Its vision-language model has the shape of tiny_vlm, from which it can begin (--init).
    """
    return VisionLanguageActionTrainConfig(
        name="tiny_vla",
        cameras=("scene_right_0", "wrist_right_minus"),
        num_steps=900,
        batch_size=32,
        validation_every=300,
        weights_format="float16",
        model=VisionLanguageActionShape(
            language=tiny_lm().model,
            vision=TINY_VISION,
            expert=ExpertShape(
                transformer=TransformerConfig(width=128, depth=4, num_heads=4, causal=False),
                timesteps_per_token=4,
            ),
            predicts="chunk",
            repeats=8,
        ),
    )


def tiny_vla_fast() -> VisionLanguageActionTrainConfig:
    """tiny_vla without its expert: the language model tells the chunk in words, as pi0-FAST.

    Not trained to its end by us.
    """
    return replace(
        tiny_vla(),
        name="tiny_vla_fast",
        model=ActionTokenShape(
            language=tiny_lm().model,
            vision=TINY_VISION,
            tokens=ActionTokenConfig(max_level=63, vocabulary_size=512),
        ),
        optimizer=OptimizerConfig(learning_rate=2e-3),
        serving=ServingConfig(num_flow_steps=1),
    )


def small_vla() -> VisionLanguageActionTrainConfig:
    """One policy for many tasks, told by words which: 3.8 M parameters, 7.5 MB in float16.

    On sixteen tasks with 100 demonstrations each: 67 minutes in two processes of a thread each.
    """
    return VisionLanguageActionTrainConfig(
        name="small_vla",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        num_steps=5200,
        batch_size=128,
        validation_episodes=4,
        validation_every=500,
        save_state_every=250,
        weights_format="float16",
        model=VisionLanguageActionShape(
            language=small_lm().model,
            vision=SMALL_VISION,
            expert=ExpertShape(
                transformer=TransformerConfig(width=192, depth=3, num_heads=4, causal=False),
                timesteps_per_token=4,
            ),
            predicts="chunk",
            repeats=4,
        ),
        # The decay bounds the scale of matrices, which Muon's steps alone do not: docs/training.md.
        optimizer=OptimizerConfig(kind="muon", warmup_steps=200, weight_decay=0.1),
    )


def small_vla_on_smollm2() -> VisionLanguageActionTrainConfig:
    """small_vla on half of SmolLM2-135M's blocks, its weights and low-rank updates of them.

    --model.language.path is its folder; of a GGUF file, --model.language.gguf-file its name. Tower
    and expert are small_vla's, and so is their training. Trained for 1,500 steps by us.
    """
    recipe = small_vla()
    assert isinstance(recipe.model, VisionLanguageActionShape)
    return replace(
        recipe,
        name="small_vla_on_smollm2",
        model=replace(
            recipe.model,
            language=HuggingFaceLanguage(
                num_blocks=15,
                adaptation=AdaptationConfig(kind="lora"),
                # It is not asked to answer: without its dialogues' words a prompt is shorter.
                chat=ChatFormat(after_assistant="<|im_end|>", image="<empty_output>"),
            ),
            # The longest phrasing of the tasks has 19.
            instruction_tokens=24,
        ),
    )


def smollm2_vla() -> VisionLanguageActionTrainConfig:
    """A policy on what smollm2_vlm made (--init): low-rank updates, ViT and expert are trained."""
    return VisionLanguageActionTrainConfig(
        name="smollm2_vla",
        num_steps=10_000,
        batch_size=32,
        model=VisionLanguageActionShape(
            language=HuggingFaceLanguage(adaptation=AdaptationConfig(kind="lora")),
            vision=TINY_VISION,
            bidirectional_prefix=False,
            expert=_expert(),
            instruction_tokens=48,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-4, warmup_steps=200, multipliers=("model.backbone.vision=0.3",)
        ),
    )


def tower_vla() -> VisionLanguageActionTrainConfig:
    """A policy on what tower_vlm made (--init): low-rank updates of both, and the expert."""
    recipe = smollm2_vla()
    assert isinstance(recipe.model, VisionLanguageActionShape)
    return replace(
        recipe,
        name="tower_vla",
        model=replace(
            recipe.model,
            vision=HuggingFaceVision(adaptation=AdaptationConfig(kind="lora"), shuffle_factor=2),
            image_size=224,
        ),
    )


def vla_on_hugging_face() -> VisionLanguageActionTrainConfig:
    """A policy on a vision-language model of Hugging Face's: Qwen-VL, SmolVLM or PaliGemma.

    --model.backbone.path is its folder; or --init what vlm_on_hugging_face made. Low-rank updates
    of it are trained, and the expert.
    """
    return VisionLanguageActionTrainConfig(
        name="vla_on_hugging_face",
        num_steps=10_000,
        batch_size=32,
        model=HuggingFaceActionShape(
            backbone=HuggingFaceVisionLanguage(adaptation=AdaptationConfig(kind="lora")),
            expert=_expert(),
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-4, warmup_steps=200, multipliers=("model.backbone=0.3",)
        ),
    )


def _expert() -> ExpertShape:
    """Some 20 million parameters, on a backbone of at least 12 blocks."""
    return ExpertShape(
        transformer=TransformerConfig(width=384, depth=12, num_heads=6, causal=False)
    )
