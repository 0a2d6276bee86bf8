"""The recipes of VLA Foundry's kind: its shapes, and a small one from demonstrations to a robot."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_interface.client import PolicyClient
from policy_interface.types import Observation
from policy_server.targets import TargetOptions, resolve
from policy_server.testing import running_server
from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.presets import (
    SMOLVLM_IMAGE_TOKEN,
    VISION_LANGUAGE_ACTION_PRESETS,
    VISION_LANGUAGE_PRESETS,
)
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.policy_configuration import TrainConfig
from trainer.recipes.foundry import (
    foundry_lm,
    foundry_vla,
    foundry_vla_qwen,
    foundry_vlm,
    tiny_foundry_vla,
)
from trainer.training_loop import train
from trainer.vision_language_action_configuration import (
    HuggingFaceActionShape,
    VisionLanguageActionShape,
)
from trainer.vision_language_configuration import VisionLanguageShape


def test_foundry_vla_is_the_published_network() -> None:
    recipe = foundry_vla()
    assert isinstance(recipe.model, VisionLanguageActionShape)
    assert recipe.cameras is not None
    with torch.device("meta"):
        network = VisionLanguagePolicy(
            recipe.model,
            cameras=recipe.cameras,
            chunk_length=recipe.chunk_length,
            action_size=20,
            image_token=SMOLVLM_IMAGE_TOKEN,
            history=recipe.history,
        )
    assert network.model.config == VISION_LANGUAGE_ACTION_PRESETS["foundry_1.7b"]
    # Table 3 of its report: 1.85 billion in all.
    count = sum(parameter.numel() for parameter in network.parameters())
    assert round(count / 1e9, 2) == 1.85
    # Four cameras at two control steps, of 64 tokens each, the older ones first.
    assert len(network.picture_names) * recipe.model.tokens_per_image == 512
    assert network.picture_names[3:5] == ("wrist_right_minus_t-1", "scene_right_0_t0")


def test_each_stage_fits_the_one_before() -> None:
    model, vlm = foundry_vla().model, foundry_vlm().model
    assert isinstance(model, VisionLanguageActionShape)
    assert isinstance(vlm, VisionLanguageShape)
    assert (foundry_lm().model, vlm.vision) == (vlm.language, model.vision)
    preset = VISION_LANGUAGE_PRESETS["foundry_1.3b"]
    assert (vlm.language, vlm.vision) == (preset.language, preset.vision)
    assert vlm.image_size == model.image_size


def test_foundry_vla_qwen_has_the_published_expert() -> None:
    recipe, preset = foundry_vla_qwen(), VISION_LANGUAGE_ACTION_PRESETS["qwen3_vl_2b"]
    assert isinstance(recipe.model, HuggingFaceActionShape)
    assert recipe.model.expert.expert == preset.expert
    assert recipe.model.objective == preset.objective
    assert preset.space == ActionSpaceConfig(
        action_size=20, chunk_length=recipe.history.past_steps + recipe.chunk_length
    )


@pytest.mark.slow
def test_a_small_one_from_demonstrations_to_a_robot(
    tiny_config: TrainConfig, tmp_path: Path, make_observation: Callable[..., Observation]
) -> None:
    config = replace(
        tiny_foundry_vla(),
        data=tiny_config.data,
        cameras=None,
        num_steps=2,
        batch_size=4,
        validation_episodes=0,
        device="cpu",
        num_threads=1,
    )
    checkpoint = train(config, tmp_path / "run")
    with (
        running_server(resolve(str(checkpoint), TargetOptions())()) as server,
        PolicyClient(server.address) as client,
    ):
        client.reset(seed=1)
        for seed in range(config.serving.open_loop_steps + 1):
            told = replace(make_observation(seed), language_instruction="Reach the square.")
            action = client.step(told)
            assert all(np.isfinite(pose.matrix()).all() for pose in action.poses.values())
