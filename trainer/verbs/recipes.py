"""`trainer list` and `trainer show`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from policy_interface.usage import UsageError
from trainer.configuration_json import config_to_json
from trainer.recipes.catalog import RECIPES, find_recipe, summary
from trainer.stages.beginnings import shaped_like_its_beginning
from trainer.training_loop import resolve
from trainer.verbs.recipe_arguments import named_fields, parse_run, recipe_of


def list_recipes(arguments: Sequence[str]) -> None:
    """Print a line a recipe."""
    if {"-h", "--help"} & set(arguments):
        print("usage: trainer list\n\nSay which recipes there are.\n\nexample: trainer list")
        return
    if arguments:
        raise UsageError(f"list: expected no arguments, got {' '.join(arguments)!r}")
    width = max(map(len, RECIPES))
    for name in RECIPES:
        kind = find_recipe(name).kind
        print(f"{name:<{width}}  {kind:<8}  {summary(name)}")


def show(arguments: Sequence[str]) -> None:
    """Print a recipe as the JSON that a training by it would store."""
    recipe, options = recipe_of("show", arguments)
    # Nothing is written there.
    parsed = parse_run("show", recipe, options, Path())
    config = shaped_like_its_beginning(resolve(parsed.config), None, named_fields(options))
    print(config_to_json(config), end="")
