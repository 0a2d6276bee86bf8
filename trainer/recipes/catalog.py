"""Recipes by name. Every field can be changed on the command line; a recipe is only where one
starts."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

from trainer.configuration_json import did_you_mean
from trainer.policy_configuration import TrainConfig
from trainer.recipes import (
    convolutional,
    foundry,
    language,
    vision_language,
    vision_language_action,
)
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig

RECIPES: Mapping[str, Callable[[], RunConfig]] = MappingProxyType(
    {
        recipe.__name__: recipe
        for recipe in (
            convolutional.pick_and_place_box,
            convolutional.put_mug_on_saucer,
            convolutional.one_task,
            convolutional.one_task_diffusion,
            convolutional.one_task_act,
            convolutional.smoke,
            language.tiny_lm,
            vision_language.tiny_vlm,
            vision_language_action.tiny_vla,
            vision_language_action.tiny_vla_fast,
            language.small_lm,
            vision_language.small_vlm,
            vision_language_action.small_vla,
            vision_language_action.small_vla_on_smollm2,
            vision_language.smollm2_vlm,
            vision_language_action.smollm2_vla,
            vision_language.tower_vlm,
            vision_language_action.tower_vla,
            vision_language.vlm_on_hugging_face,
            vision_language_action.vla_on_hugging_face,
            language.lm_11m,
            language.lm_100m,
            language.lm_400m,
            foundry.foundry_lm,
            foundry.foundry_vlm,
            foundry.foundry_vla,
            foundry.foundry_vla_qwen,
            foundry.tiny_foundry_vla,
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
