"""`trainer plot`: the curves of training runs over one another."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.plotting.curves import overlay
from trainer.plotting.palette import Scheme
from trainer.plotting.runs import read_runs
from trainer.plotting.writing import write_gallery

_DESCRIPTION = """Lay the curves of training runs over one another, as a picture and as a page.

Writes curves.png and curves.html: every scalar that the runs have, and what their configurations
differ in. Each run goes by its folder's name, or by one given in front of it.

example: trainer plot runs/lm runs/lm_wide --output plots
         trainer plot demo=runs/demo/training vla=runs/vla --output plots --scheme dark"""


@dataclass(frozen=True, kw_only=True)
class PlotArguments:
    """Which runs, and how.

    Attributes:
        runs: Their folders, each perhaps with a name in front of it: NAME=FOLDER.
        output: The folder to write into; curves.png and curves.html there are replaced.
        smoothing: How far curves are smoothed, as a part of the longest run; 0 shows raw ones.
        scheme: Of the PNG; the page follows its reader's.
    """

    runs: Annotated[
        tuple[str, ...],
        tyro.conf.Positional,
        tyro.conf.arg(metavar="RUN [RUN ...]", help_behavior_hint="(required)"),
    ]
    output: Annotated[Path, tyro.conf.arg(metavar="FOLDER")]
    smoothing: float = 0.02
    scheme: Scheme = "light"


def run_plot(words: Sequence[str]) -> int:
    """Raises UsageError, PlottingError, OSError for what the user can mend."""
    parsed = parse_or_say_why(
        lambda: tyro.cli(PlotArguments, args=words, prog="trainer plot", description=_DESCRIPTION)
    )
    if not parsed.runs:
        raise UsageError("plot: first the folder of a run, such as runs/lm")
    if not 0 <= parsed.smoothing <= 1:
        raise UsageError(f"plot: --smoothing: expected 0 to 1, got {parsed.smoothing}")
    runs = read_runs(parsed.runs, warn)
    files = write_gallery(overlay(runs, parsed.smoothing), parsed.output, "curves", parsed.scheme)
    for file in files:
        print(file)
    return 0


def warn(message: str) -> None:
    print(printable(f"warning: {message}"), file=sys.stderr)
