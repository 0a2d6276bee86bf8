"""`trainer train`."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import tyro

from policy_interface.allocator import keep_freed_memory
from policy_interface.usage import UsageError
from trainer.launching import is_first_around, run_ranks, world_size_around
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
    if _is_for_others(parsed.num_processes):
        # -P: of a folder called trainer, where the user is, nothing shall be imported.
        command = [sys.executable, "-P", "-m", "trainer.command_line", "train", *arguments]
        run_ranks(command, parsed.num_processes)
        return
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
    if is_first_around():
        print(checkpoint)


def _is_for_others(num_processes: int) -> bool:
    """Whether the training is that of processes which are yet to be begun."""
    if num_processes < 1:
        raise UsageError(f"train: --num-processes: expected 1 or more, got {num_processes}")
    around = world_size_around()
    if around is None or num_processes == 1:
        return num_processes > 1
    if around != num_processes:
        raise UsageError(
            f"train: --num-processes {num_processes}: this is one of {around} processes already; "
            "leave it out, torchrun's --nproc-per-node says how many"
        )
    return False
