"""A recipe, or the configuration of a run, with what the options change of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Generic, TypeVar

import tyro

from policy_interface.usage import UsageError
from trainer.metric_sinks import TrackerName
from trainer.recipe_files import is_recipe_file, read_recipe_file
from trainer.recipes.catalog import RECIPES, find_recipe
from trainer.run_configuration import RunConfig
from trainer.verbs.arguments import parse_arguments

_Config = TypeVar("_Config", bound=RunConfig)


@dataclass(frozen=True, kw_only=True)
class TrainArguments(Generic[_Config]):
    """Train by a recipe, or resume a run that was stopped.

    Attributes:
        output: The run's folder. One that holds this very run already is resumed.
        tracker: Whom else to tell the numbers: wandb or trackio, each an extra.
        num_processes: That share the training on this machine, each on a GPU of its own or on its
            part of the cores.
        config: Every field of the recipe may be changed.
    """

    output: Path
    tracker: TrackerName = "none"
    num_processes: int = 1
    config: Annotated[_Config, tyro.conf.arg(name="")]


def recipe_of(verb: str, arguments: Sequence[str]) -> tuple[str, list[str]]:
    """The recipe's name or file, and the options after it."""
    if arguments and not arguments[0].startswith("-"):
        return arguments[0], list(arguments[1:])
    if {"-h", "--help"} & set(arguments):
        return next(iter(RECIPES)), list(arguments)
    raise UsageError(f"{verb}: first a recipe ({', '.join(RECIPES)}) or a JSON file of one")


def named_fields(options: Sequence[str]) -> set[str]:
    """Those that options name: `model.image_size` of `--model.image-size 48`."""
    words = (word[2:].partition("=")[0] for word in options if word.startswith("--"))
    names = {word.replace("-", "_") for word in words}
    # A flag may be said in the negative.
    return names | {name.replace(".no_", ".") for name in names}


def parse_run(
    verb: str, recipe: str, options: Sequence[str], output: Any
) -> TrainArguments[RunConfig]:
    """A recipe with what the options change of it."""
    what = "Train, or resume a training." if verb == "train" else "Print a recipe, resolved."
    data = "--data demos/PickAndPlaceBox" if verb == "train" else "--num-steps 300"
    output_option = " --output runs/box" if verb == "train" else ""
    config = _starting_config(recipe)
    # Which options there are, the recipe's kind says.
    kind: type[TrainArguments[RunConfig]] = TrainArguments[type(config)]
    return parse_arguments(
        kind,
        options,
        default=TrainArguments(output=output, config=config),
        program=f"trainer {verb} {recipe}",
        description=(
            f"{what} Recipes: {', '.join(RECIPES)}; or a JSON file: of what differs "
            f'from the recipe that its key "recipe" names, or a run\'s config.json, for the same '
            f"again.\n\nexample: trainer {verb} pick_and_place_box {data}{output_option} "
            "--optimizer.learning-rate 3e-4"
        ),
    )


def _starting_config(recipe: str) -> RunConfig:
    """Of a recipe's name, or of a file."""
    if is_recipe_file(recipe):
        return read_recipe_file(Path(recipe))
    return find_recipe(recipe)
