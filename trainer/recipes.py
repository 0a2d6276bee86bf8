"""Named recipes: what was measured to work, in Python. Every field can be changed on the command
line; a recipe is only where one starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trainer.configuration import (
    ConfigurationError,
    FlowHeadConfig,
    ModelConfig,
    OptimizerConfig,
    TrainConfig,
    VisionConfig,
)
from trainer.configuration_json import did_you_mean


def pick_and_place_box() -> TrainConfig:
    """The quickstart: one right-armed task, two cameras, a few minutes on two CPU cores.

    Measured with 110 demonstrations of 96x96 pixels: 48 of 50 unseen episodes after 1200 steps,
    7 of 50 after 150. A step takes some 0.2 CPU-seconds where bfloat16 is fast, 0.3 elsewhere.
    """
    return TrainConfig(
        name="pick_and_place_box",
        cameras=("scene_right_0", "wrist_right_minus"),
        num_steps=1200,
        checkpoint_steps=(150,),
        weights_format="float16",
    )


def put_mug_on_saucer() -> TrainConfig:
    """Either arm, the one nearer to the mug: the quickstart's network, both hands' cameras.

    Measured with 110 demonstrations of 96x96 pixels: 42 of 50 unseen episodes after 3000 steps.
    """
    return TrainConfig(
        name="put_mug_on_saucer",
        cameras=("scene_left_0", "wrist_right_minus", "wrist_left_plus"),
        num_steps=3000,
        weights_format="float16",
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


RECIPES: Mapping[str, Callable[[], TrainConfig]] = MappingProxyType(
    {recipe.__name__: recipe for recipe in (pick_and_place_box, put_mug_on_saucer, smoke)}
)


def find_recipe(name: str) -> TrainConfig:
    """Raises ConfigurationError, with a suggestion, for a name that is none."""
    if name not in RECIPES:
        raise ConfigurationError(
            f"unknown recipe {name!r}{did_you_mean(name, RECIPES)}; there are {', '.join(RECIPES)}"
        )
    return RECIPES[name]()
