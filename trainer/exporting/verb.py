"""`trainer export`: a checkpoint becomes a repository for the Hugging Face hub."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.checkpoint_files import CheckpointError
from trainer.exporting.errors import ExportError
from trainer.exporting.hugging_face import CARD_FILE, export_checkpoint, repository_name

_USAGE = "usage: trainer export hf CHECKPOINT --output FOLDER [--evaluation FILE] [--license ID]"


@dataclass(frozen=True, kw_only=True)
class ExportArguments:
    """Make a repository for the Hugging Face hub of a checkpoint. Nothing is uploaded.

    Attributes:
        checkpoint: Its folder, such as runs/box/checkpoints/final.
        output: The folder to write; it must not exist, or be empty.
        evaluation: A ledger.jsonl of this policy, or a report.json of step-analysis.
        license: The licence that you give it, as the hub writes it, such as apache-2.0; left out,
            the card says nothing of one.
    """

    checkpoint: tyro.conf.Positional[Path]
    output: Path
    evaluation: Path | None = None
    license: Annotated[str | None, tyro.conf.arg(metavar="ID")] = None


def run_export(words: Sequence[str]) -> int:
    """Raises UsageError, ExportError, OSError for what the user can mend."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if words else 2
    where, *rest = words
    if where != "hf":
        raise UsageError(f"export: unknown destination {where!r}; there is hf")
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            ExportArguments,
            args=rest,
            prog="trainer export hf",
            description="Make a repository for the Hugging Face hub of a checkpoint. Nothing is "
            "uploaded.\n\nexample: trainer export hf runs/box/checkpoints/final --output box "
            "--evaluation rollouts/ledger.jsonl --license apache-2.0",
        )
    )
    try:
        num_tensors = export_checkpoint(
            parsed.checkpoint,
            parsed.output,
            evaluation=parsed.evaluation,
            license_id=parsed.license,
        )
    except (CheckpointError, FileExistsError) as error:
        raise ExportError(str(error)) from error
    output = printable(str(parsed.output))
    print(f"{output}: written and read again, {num_tensors} tensors are equal; see {CARD_FILE}")
    place = shlex.quote(str(parsed.output))
    print(printable(f"hf upload OWNER/{repository_name(parsed.output)} {place} ."))
    return 0
