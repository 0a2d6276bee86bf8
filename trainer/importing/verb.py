"""`trainer import`: a model that another system trained becomes one of ours."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from policy_interface.usage import UsageError, parse_or_say_why
from trainer.importing.errors import ImportingError
from trainer.importing.foundry import import_foundry
from trainer.models.model_folder import write_model

_USAGE = "usage: trainer import foundry PATH|hf://OWNER/NAME --output FOLDER"


@dataclass(frozen=True, kw_only=True)
class ImportFoundryArguments:
    """Make a model of VLA Foundry ours, every tensor accounted for.

    Attributes:
        source: Its folder, with config.yaml and checkpoints/; or hf://OWNER/NAME.
        output: The folder to write: model.safetensors, config.json and its statistics.
        checkpoint: A file's name in checkpoints/; left out, the last one.
    """

    source: tyro.conf.Positional[str]
    output: Path
    checkpoint: str | None = None


def run_import(words: Sequence[str]) -> int:
    """Raises UsageError, ImportingError, DataError, OSError for what the user can mend."""
    if not words or words[0] in ("-h", "--help"):
        print(_USAGE)
        return 0 if words else 2
    system, *rest = words
    if system != "foundry":
        raise UsageError(f"import: unknown system {system!r}; there is foundry")
    parsed = parse_or_say_why(
        lambda: tyro.cli(
            ImportFoundryArguments,
            args=rest,
            prog="trainer import foundry",
            description="Make a model of VLA Foundry ours, every tensor accounted for.\n\n"
            "example: trainer import foundry hf://OWNER/NAME --output models/imported",
        )
    )
    if parsed.output.exists():
        raise ImportingError(f"{parsed.output}: already exists; give a folder that does not")
    imported = import_foundry(parsed.source, checkpoint=parsed.checkpoint)
    files = {} if imported.statistics is None else {"statistics.json": imported.statistics}
    write_model(imported.network, parsed.output, notes=imported.notes, files=files)
    count = sum(p.numel() for p in imported.network.parameters())
    kind = type(imported.network).__name__
    print(
        f"{parsed.output}: {kind} of {count:,} parameters, from {imported.notes['imported_from']}"
    )
    return 0
