"""Named recipes: what was measured to work, in Python. Every field can be changed on the command
line; a recipe is only where one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from types import MappingProxyType

from trainer.configuration_json import did_you_mean
from trainer.hugging_face_configuration import (
    HuggingFaceLanguage,
    HuggingFaceVision,
    HuggingFaceVisionLanguage,
)
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.adaptation import AdaptationConfig
from trainer.models.configuration import (
    DiffusionHeadConfig,
    FlowHeadConfig,
    ModelConfig,
    RegressionHeadConfig,
    VisionConfig,
)
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.presets import LANGUAGE_PRESETS
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.policy_configuration import ServingConfig, TrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.training_configuration import EmaConfig, OptimizerConfig
from trainer.vision_language_action_configuration import (
    ExpertShape,
    HuggingFaceActionShape,
    VisionLanguageActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_configuration import (
    HuggingFaceAnswererShape,
    VisionLanguageShape,
    VisionLanguageTrainConfig,
)


def pick_and_place_box() -> TrainConfig:
    """The quickstart: one right-armed task, two cameras, a few minutes on two CPU cores.

    Measured with 100 demonstrations of 96x96 pixels: 50 of 50 unseen episodes after 400 steps and
    49 after 600. By AdamW it took 1200 steps to 48. A step takes some 0.2 CPU-seconds where
    bfloat16 is fast, 0.3 elsewhere.
    """
    return TrainConfig(
        name="pick_and_place_box",
        cameras=("scene_right_0", "wrist_right_minus"),
        num_steps=500,
        checkpoint_steps=(100,),
        weights_format="float16",
        optimizer=OptimizerConfig(kind="muon"),
    )


def put_mug_on_saucer() -> TrainConfig:
    """Either arm, the one nearer to the mug: the quickstart's network, both hands' cameras.

    Measured with 110 demonstrations of 96x96 pixels: 48 of 50 unseen episodes after 1500 steps. By
    AdamW it took 3000 steps to 42.
    """
    return TrainConfig(
        name="put_mug_on_saucer",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        num_steps=1500,
        weights_format="float16",
        optimizer=OptimizerConfig(kind="muon"),
    )


def one_task() -> TrainConfig:
    """Any of the simulation's tasks, by one arm or both: some twenty-two minutes of a CPU thread.

    By Muon: after 150 s of one thread the held-out error was 16 mm in place of AdamW's 21 mm.
    """
    return TrainConfig(
        name="one_task",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        batch_size=32,
        num_steps=4000,
        validation_every=500,
        save_state_every=250,
        weights_format="float16",
        optimizer=OptimizerConfig(kind="muon"),
    )


def one_task_diffusion() -> TrainConfig:
    """A baseline for one_task: the convolutional diffusion policy's head, all else alike."""
    return replace(
        one_task(), name="one_task_diffusion", model=ModelConfig(baseline=DiffusionHeadConfig())
    )


def one_task_act() -> TrainConfig:
    """A baseline for one_task: ACT's head and its L1 loss, all else alike."""
    return replace(
        one_task(),
        name="one_task_act",
        model=ModelConfig(baseline=RegressionHeadConfig()),
        serving=ServingConfig(num_flow_steps=1),
    )


def smoke() -> TrainConfig:
    """Seconds, on whatever was recorded: shows that the machinery runs, and nothing else."""
    return TrainConfig(
        name="smoke",
        num_steps=20,
        batch_size=16,
        checkpoint_steps=(10,),
        validation_episodes=1,
        validation_every=10,
        save_state_every=10,
        optimizer=OptimizerConfig(warmup_steps=5),
        model=ModelConfig(
            vision=VisionConfig(stem_channels=8, channels=16, num_keypoints=8),
            flow_head=FlowHeadConfig(width=64, depth=2, mlp_ratio=2, flow_times_per_image=2),
        ),
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


def tiny_lm() -> LanguageTrainConfig:
    """A language model of a laptop's minutes: the first stage on a small text."""
    return LanguageTrainConfig(
        name="tiny_lm",
        num_steps=150,
        batch_size=8,
        validation_documents=4,
        validation_every=75,
        save_state_every=75,
        model=LanguageConfig(
            transformer=TransformerConfig(width=128, depth=4, num_heads=4),
            vocabulary_size=1024,
            # Two pictures of `sim-client captions` with all that is asked about them.
            context_length=320,
            tied_weights=True,
            z_loss=1e-4,
        ),
        optimizer=OptimizerConfig(
            learning_rate=3e-3, warmup_steps=30, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.98),
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


# Sixteen tokens of an image of 96 pixels.
SMALL_VISION = VisionTransformerConfig(
    width=256,
    depth=3,
    num_heads=4,
    feed_forward_width=512,
    patch_size=24,
    image_size=96,
    stem="convolutions",
)


def small_lm() -> LanguageTrainConfig:
    """A language model of 3.4 M parameters: the first stage of a policy for many tasks."""
    return replace(
        tiny_lm(),
        name="small_lm",
        num_steps=600,
        batch_size=32,
        validation_every=300,
        save_state_every=300,
        model=LanguageConfig(
            transformer=TransformerConfig(width=256, depth=4, num_heads=4, feed_forward_width=640),
            vocabulary_size=1024,
            context_length=384,
            tied_weights=True,
            z_loss=1e-4,
        ),
        optimizer=OptimizerConfig(
            learning_rate=2e-3, warmup_steps=60, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.99),
    )


def small_vlm() -> VisionLanguageTrainConfig:
    """Answers about pictures of all tasks' scenes: the second stage; begins with small_lm's."""
    return replace(
        tiny_vlm(),
        name="small_vlm",
        num_steps=600,
        batch_size=32,
        validation_every=300,
        save_state_every=300,
        model=VisionLanguageShape(language=small_lm().model, vision=SMALL_VISION),
        optimizer=OptimizerConfig(
            learning_rate=1e-3, warmup_steps=100, weight_decay=0.05, beta2=0.95
        ),
        ema=EmaConfig(max_decay=0.99),
    )


def small_vla() -> VisionLanguageActionTrainConfig:
    """One policy for many tasks, told by words which: 9.6 M parameters, 19 MB in float16.

    Not trained to its end by us. 53 windows a second of one CPU core that multiplies in bfloat16.
    """
    return VisionLanguageActionTrainConfig(
        name="small_vla",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        num_steps=10_000,
        batch_size=128,
        validation_episodes=4,
        validation_every=1000,
        save_state_every=250,
        weights_format="float16",
        model=VisionLanguageActionShape(
            language=small_lm().model,
            vision=SMALL_VISION,
            expert=ExpertShape(
                transformer=TransformerConfig(width=256, depth=4, num_heads=4, causal=False),
                timesteps_per_token=4,
            ),
            predicts="chunk",
            repeats=4,
        ),
        optimizer=OptimizerConfig(kind="muon", warmup_steps=200),
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


def lm_11m() -> LanguageTrainConfig:
    """VLA Foundry's 11M shape, on 500 million tokens; not trained to its end by us."""
    return _pretraining("lm_11m", "11m", num_tokens=500_000_000, batch_size=64, learning_rate=1e-3)


def lm_100m() -> LanguageTrainConfig:
    """VLA Foundry's 100M shape, on 2 billion tokens; not trained to its end by us."""
    return _pretraining("lm_100m", "100m", num_tokens=2_000_000_000, batch_size=256)


def _pretraining(
    name: str, preset: str, *, num_tokens: int, batch_size: int, learning_rate: float = 6e-4
) -> LanguageTrainConfig:
    """The rate stays and falls at the end, so that a longer run can start from a stored state."""
    return LanguageTrainConfig(
        name=name,
        num_tokens=num_tokens,
        batch_size=batch_size,
        micro_batch_size=8,
        validation_documents=64,
        validation_every=500,
        save_state_every=500,
        model=replace(LANGUAGE_PRESETS[preset], z_loss=1e-4),
        optimizer=OptimizerConfig(
            learning_rate=learning_rate,
            warmup_steps=500,
            schedule="constant_decay",
            final_learning_rate_fraction=0.0,
            weight_decay=0.1,
            beta2=0.95,
        ),
    )


RECIPES: Mapping[str, Callable[[], RunConfig]] = MappingProxyType(
    {
        recipe.__name__: recipe
        for recipe in (
            pick_and_place_box,
            put_mug_on_saucer,
            one_task,
            one_task_diffusion,
            one_task_act,
            smoke,
            tiny_lm,
            tiny_vlm,
            tiny_vla,
            small_lm,
            small_vlm,
            small_vla,
            smollm2_vlm,
            smollm2_vla,
            tower_vlm,
            tower_vla,
            vlm_on_hugging_face,
            vla_on_hugging_face,
            lm_11m,
            lm_100m,
        )
    }
)


def find_recipe(name: str) -> RunConfig:
    """Raises ConfigurationError, with a suggestion, for a name that is none."""
    if name not in RECIPES:
        raise ConfigurationError(
            f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}; there are {', '.join(RECIPES)}"
        )
    return RECIPES[name]()


def find_policy_recipe(name: str) -> TrainConfig:
    """Raises ConfigurationError for a name that is none of a policy's."""
    config = find_recipe(name)
    if not isinstance(config, TrainConfig):
        raise ConfigurationError(f"recipe {name!r}: expected a policy's, got a {config.kind} run's")
    return config


def summary(name: str) -> str:
    """A recipe's first sentence."""
    return (RECIPES[name].__doc__ or "").partition("\n")[0]
