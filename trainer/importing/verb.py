"""`trainer import`: a model that another system trained becomes one of ours."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import tyro

from policy_interface.contract import ContractError, ImageSize
from policy_interface.printable import printable
from policy_interface.usage import UsageError, parse_or_say_why
from trainer.checkpoint import write_checkpoint
from trainer.importing.errors import ImportingError
from trainer.importing.foundry import import_foundry
from trainer.importing.foundry_checkpoint import Station, checkpoint_of, missing_facts
from trainer.models.model_folder import write_model
from trainer.models.vision_language_action import VisionLanguageAction
from trainer.training_configuration import WeightsFormat

_USAGE = "usage: trainer import foundry PATH|hf://OWNER/NAME --output FOLDER"


@dataclass(frozen=True, kw_only=True)
class ImportFoundryArguments:
    """Make a model of VLA Foundry ours, every tensor accounted for.

    A policy of which all is known becomes a checkpoint that `policy-server serve` loads; what its
    folder does not say is given by --tokenizer, --camera-size and --resize.

    Attributes:
        source: Its folder, with config.yaml and checkpoints/; or hf://OWNER/NAME.
        output: The folder to write.
        checkpoint: A file's name in checkpoints/; left out, the last one.
        backbone: Of a policy on a Hugging Face model, that model's folder as the hub has it; its
            weights are not read.
        tokenizer: The folder of the tokenizer (of a policy on a Hugging Face model: of the
            processor) that the policy was trained with, as the hub has it.
        camera_size: [CAMERA=]WIDTHxHEIGHT of the station's pictures, such as 640x480; several.
        resize: WIDTHxHEIGHT that training resized pictures to, if the folder does not say.
        control_rate_hz: How often the station acts.
        name: The policy's name, in reports; left out, the folder's.
        weights_format: Numbers of the checkpoint's weights.
    """

    source: tyro.conf.Positional[str]
    output: Path
    checkpoint: str | None = None
    backbone: Path | None = None
    tokenizer: Path | None = None
    camera_size: tuple[str, ...] = ()
    resize: str | None = None
    control_rate_hz: float = 10.0
    name: str | None = None
    weights_format: WeightsFormat = "float32"


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
            "example: trainer import foundry hf://OWNER/NAME --output models/imported "
            "--tokenizer SmolVLM2 --camera-size 640x480",
        )
    )
    if parsed.output.exists():
        raise ImportingError(f"{parsed.output}: already exists; give a folder that does not")
    station = _station(parsed)
    imported = import_foundry(parsed.source, checkpoint=parsed.checkpoint, backbone=parsed.backbone)
    output, network = printable(str(parsed.output)), imported.network
    count = sum(p.numel() for p in network.parameters())
    what = f"{type(network).__name__} of {count:,} parameters"
    origin = printable(str(imported.notes["imported_from"]))
    missing = []
    if isinstance(network, VisionLanguageAction):
        missing = missing_facts(imported, station)
        if not missing:
            name = parsed.name or parsed.source.rstrip("/").rpartition("/")[2] or "imported"
            checkpoint = checkpoint_of(
                imported, station, name=name, weights_format=parsed.weights_format
            )
            write_checkpoint(checkpoint, parsed.output)
            print(f"{output}: {what}, from {origin}")
            print(f"policy-server serve {shlex.quote(output)}")
            return 0
        if parsed.tokenizer is not None:
            raise ImportingError(f"{origin}: to be served it lacks {'; '.join(missing)}")
    elif parsed.tokenizer is not None:
        raise ImportingError(f"--tokenizer: of policies alone; {origin} is a {what}")
    files = {} if imported.statistics is None else {"statistics.json": imported.statistics}
    write_model(network, parsed.output, notes=imported.notes, files=files)
    print(f"{output}: {what}, from {origin}")
    if missing:
        print(f"a model, no checkpoint: to be served it lacks {printable('; '.join(missing))}")
    return 0


def _station(parsed: ImportFoundryArguments) -> Station:
    sizes = {}
    try:
        for text in parsed.camera_size:
            camera, _, size = text.rpartition("=")
            sizes[camera] = ImageSize.parse(size)
        resize = None if parsed.resize is None else ImageSize.parse(parsed.resize)
    except ContractError as error:
        raise UsageError(f"import foundry: {error}") from error
    return Station(
        tokenizer=parsed.tokenizer,
        camera_sizes=sizes,
        resize=resize,
        control_rate_hz=parsed.control_rate_hz,
    )
