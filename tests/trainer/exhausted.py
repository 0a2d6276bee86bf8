"""A program that trains until, after some optimizer steps, there is no memory left for it.

    python -m tests.trainer.exhausted RUN STEPS SAVED train RECIPE ...

SAVED: the step of the save that is waited for before memory is taken.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

import pytest
import torch

from tests.trainer.steps import call_after_step
from trainer.command_line import main
from trainer.run_directory import RunDirectory

_ballast: list[torch.Tensor] = []

# What is left is less than a step's largest tensor, and enough to say so.
_SMALLEST, _NUM_GIVEN_BACK = 2**16, 16


def take_all_memory() -> None:
    """What is not mapped by now shall not be, and what is free of that is taken."""
    num_pages = int(Path("/proc/self/statm").read_text().split()[0])
    most = num_pages * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (most, most))
    for size in (2**26, 2**22, _SMALLEST):
        while True:
            try:
                _ballast.append(torch.empty(size, dtype=torch.uint8))
            except RuntimeError:
                break
    del _ballast[-_NUM_GIVEN_BACK:]


def work(root: Path, count: int, saved: int, words: list[str]) -> int:
    def act() -> None:
        while RunDirectory(root=root).saved_step() != saved:
            os.sched_yield()
        take_all_memory()

    with pytest.MonkeyPatch.context() as patched:
        call_after_step(patched, count, act)
        return main(words)


if __name__ == "__main__":
    sys.exit(work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4:]))
