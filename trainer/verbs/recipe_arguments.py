"""A recipe, or the configuration of a run, with what the options change of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from policy_interface.usage import UsageError
from trainer.configuration_json import config_from_json
from trainer.language_configuration import LanguageTrainConfig
from trainer.metric_sinks import TrackerName
from trainer.policy_configuration import TrainConfig
from trainer.recipes import RECIPES, find_recipe
from trainer.run_configuration import RunConfig
from trainer.verbs.arguments import parse_arguments
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_configuration import VisionLanguageTrainConfig


@dataclass(frozen=True, kw_only=True)
class PolicyTrainArguments:
    """Train a policy by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[TrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class VisionLanguageActionTrainArguments:
    """Train a policy that sees, reads and acts by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[VisionLanguageActionTrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class VisionLanguageTrainArguments:
    """Train a model that answers about pictures by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[VisionLanguageTrainConfig, tyro.conf.arg(name="")]


@dataclass(frozen=True, kw_only=True)
class LanguageTrainArguments:
    """Train a language model by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    config: Annotated[LanguageTrainConfig, tyro.conf.arg(name="")]


def recipe_of(verb: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe's name or file, and the options after it."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    if {"-h", "--help"} & set(arguments):
        return next(iter(RECIPES)), list(arguments)
    raise UsageError(f"{verb}: first a recipe ({', '.join(RECIPES)}) or the config.json of a run")


def named_fields(options: Sequence[str]) -> set[str]:
    """Those that options name: `model.image_size` of `--model.image-size 48`."""
    words = (word[2:].partition("=")[0] for word in options if word.startswith("--"))
    names = {word.replace("-", "_") for word in words}
    # A flag may be said in the negative.
    return names | {name.replace(".no_", ".") for name in names}


def parse_run(
    verb: str, recipe: str, options: Sequence[str], output: Any
) -> (
    PolicyTrainArguments
    | LanguageTrainArguments
    | VisionLanguageTrainArguments
    | VisionLanguageActionTrainArguments
):
    """A recipe with what the options change of it."""
    what = "Train, or resume a training." if verb == "train" else "Print a recipe, resolved."
    data = "--data demos/PickAndPlaceBox" if verb == "train" else "--num-steps 300"
    output_option = " --output runs/box" if verb == "train" else ""
    words: dict[str, Any] = {
        "program": f"trainer {verb} {recipe}",
        "description": (
            f"{what} Recipes: {', '.join(RECIPES)}; or the path of a run's config.json, for the "
            f"same again.\n\nexample: trainer {verb} pick_and_place_box {data}{output_option} "
            "--optimizer.learning-rate 3e-4"
        ),
    }
    config = _starting_config(recipe)
    if isinstance(config, TrainConfig):
        policy = PolicyTrainArguments(output=output, config=config)
        return parse_arguments(PolicyTrainArguments, options, default=policy, **words)
    if isinstance(config, VisionLanguageActionTrainConfig):
        acting = VisionLanguageActionTrainArguments(output=output, config=config)
        return parse_arguments(VisionLanguageActionTrainArguments, options, default=acting, **words)
    if isinstance(config, VisionLanguageTrainConfig):
        seeing = VisionLanguageTrainArguments(output=output, config=config)
        return parse_arguments(VisionLanguageTrainArguments, options, default=seeing, **words)
    language = LanguageTrainArguments(output=output, config=config)
    return parse_arguments(LanguageTrainArguments, options, default=language, **words)


def _starting_config(recipe: str) -> RunConfig:
    """Of a recipe's name, or of the config.json of a run."""
    if not recipe.endswith(".json"):
        return find_recipe(recipe)
    try:
        return config_from_json(Path(recipe).read_text())
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{recipe}: cannot be read: {error}") from error
