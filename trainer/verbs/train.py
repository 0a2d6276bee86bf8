"""`trainer train`."""

from __future__ import annotations

from collections.abc import Sequence

import tyro

from policy_interface.usage import UsageError
from trainer.policy_configuration import PolicyConfig
from trainer.training_loop import train
from trainer.verbs.recipe_arguments import named_fields, parse_run, recipe_of


def main(arguments: Sequence[str]) -> None:
    """Train, or resume a training, and print where its checkpoint is."""
    recipe, options = recipe_of("train", arguments)
    parsed = parse_run("train", recipe, options, tyro.MISSING)
    if not parsed.config.data:
        what = "text"
        if isinstance(parsed.config, PolicyConfig):
            what = "the folder of demonstrations"
        raise UsageError(f"train: --data: give {what}")
    asked = named_fields(options)
    print(train(parsed.config, parsed.output, asked, tracker=parsed.tracker))
