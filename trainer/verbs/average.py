"""`trainer average`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import isinf
from pathlib import Path
from typing import Annotated

import tyro

from policy_interface.printable import printable
from policy_interface.usage import UsageError
from trainer.averaging import averaged
from trainer.checkpoint import read_checkpoint, write_checkpoint
from trainer.verbs.arguments import parse_arguments

_DESCRIPTION = "Average the weights of policies that began with the same one."


@dataclass(frozen=True, kw_only=True)
class AverageArguments:
    """Average the weights of policies that began with the same one.

    Attributes:
        checkpoints: Their folders; what else the average holds is the last one's.
        output: Folder of the average, which must not be there yet.
        shares: Of each, positive numbers of whatever sum; as much of each by default.
    """

    checkpoints: tyro.conf.Positional[Annotated[tuple[Path, ...], tyro.conf.arg(metavar="FOLDER")]]
    output: Path
    shares: tuple[float, ...] = ()


def main(arguments: Sequence[str]) -> None:
    """Write the average, and print its folder."""
    parsed = parse_arguments(
        AverageArguments,
        arguments,
        program="trainer average",
        description=f"{_DESCRIPTION}\n\n"
        "example: trainer average runs/old/checkpoints/final runs/new/checkpoints/final "
        "--output runs/average",
    )
    num = len(parsed.checkpoints)
    if num < 2 or len(set(parsed.checkpoints)) < num:
        raise UsageError("expected two checkpoints or more, each once")
    shares = parsed.shares or (1.0,) * num
    if len(shares) != num or not all(share > 0 for share in shares) or isinf(sum(shares)):
        raise UsageError(f"--shares: expected {num} positive numbers, got {parsed.shares}")
    if parsed.output.exists():
        raise UsageError(f"--output: {parsed.output} is there already")
    read = {str(path): read_checkpoint(path) for path in parsed.checkpoints}
    write_checkpoint(averaged(read, shares), parsed.output)
    print(printable(str(parsed.output)))
