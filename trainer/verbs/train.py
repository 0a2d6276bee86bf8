"""`trainer train`."""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence

import tyro

from policy_interface.allocator import keep_freed_memory
from policy_interface.usage import UsageError
from trainer.policy_configuration import PolicyConfig
from trainer.training_loop import train
from trainer.verbs.recipe_arguments import named_fields, parse_run, recipe_of

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


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
    # A step's tensors are as large as those of the step before it: up to a fifth of the time on a
    # CPU went to pages for them.
    keep_freed_memory()
    try:
        checkpoint = train(parsed.config, parsed.output, asked, tracker=parsed.tracker)
    except OSError as error:
        if error.errno not in _NO_ROOM:
            raise
        raise OSError(
            f"{parsed.output}: {os.strerror(error.errno)}; what was saved before is whole: make "
            "room, and the same command goes on from there"
        ) from error
    print(checkpoint)
