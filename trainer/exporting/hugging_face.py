"""A checkpoint as a repository for the Hugging Face hub.

The checkpoint's own files, byte by byte, so that its digest stays what it was, and a README.md. The
folder is a checkpoint itself: it is served, inspected and begun with as it is.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from trainer.atomic_directory import atomic_directory
from trainer.checkpoint import Checkpoint, read_checkpoint
from trainer.checkpoint_files import MANIFEST_FILE, CheckpointError, checkpoint_kind, file_names
from trainer.exporting.errors import ExportError
from trainer.exporting.evaluation import read_evaluation
from trainer.exporting.model_card import language_card, name_of, policy_card
from trainer.language_checkpoint import LanguageCheckpoint, read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.vision_language_checkpoint import (
    build_vision_language_model,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageTrainConfig

CARD_FILE = "README.md"

# As the hub writes them: apache-2.0, cc-by-4.0, other.
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.+-]{0,63}")

AnyCheckpoint = Checkpoint | LanguageCheckpoint[Any]


def export_checkpoint(
    path: Path, output: Path, *, evaluation: Path | None = None, license_id: str | None = None
) -> int:
    """Write the repository whole or not at all; returns how many tensors were compared.

    What was written is read again, and a network made of it, before it takes its name.
    Raises ExportError, CheckpointError, OSError (FileExistsError for a folder with something in
    it).
    """
    if license_id is not None and not _LICENSE.fullmatch(license_id):
        raise ExportError(
            f"--license: expected an identifier such as apache-2.0, got {license_id!r:.80}"
        )
    read = _reader(path)
    checkpoint = read(path)
    card = _card(checkpoint, repository_name(output), evaluation, license_id)
    with atomic_directory(output, may_be_empty=True) as folder:
        for name in (*file_names(path), MANIFEST_FILE):
            shutil.copyfile(path / name, folder / name)
        (folder / CARD_FILE).write_text(card, encoding="utf-8")
        try:
            again = read(folder)
            _build(again)
            _require_equal(checkpoint.weights, again.weights)
        except CheckpointError as error:
            raise CheckpointError(str(error).replace(str(folder), str(path))) from error
        if again.digest != checkpoint.digest:
            raise ExportError(f"{path}: it was changed while it was read; nothing exported")
    return len(checkpoint.weights)


def repository_name(output: Path) -> str:
    """A name that the hub takes, after the folder's."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", output.resolve().name)
    return re.sub(r"([.-])[.-]+", r"\1", name).strip(".-")[:96] or "model"


def _reader(path: Path) -> Callable[[Path], AnyCheckpoint]:
    kind = checkpoint_kind(path)
    if kind == LanguageTrainConfig.kind:
        return read_language_checkpoint
    if kind == VisionLanguageTrainConfig.kind:
        return read_vision_language_checkpoint
    return read_checkpoint


def _build(checkpoint: AnyCheckpoint) -> None:
    """Raises CheckpointError where the weights are not those of the network."""
    if isinstance(checkpoint, Checkpoint):
        checkpoint.build_network()
    elif isinstance(checkpoint.config, VisionLanguageTrainConfig):
        build_vision_language_model(checkpoint)
    else:
        checkpoint.build_model()


def _card(
    checkpoint: AnyCheckpoint, folder: str, evaluation: Path | None, license_id: str | None
) -> str:
    if isinstance(checkpoint, Checkpoint):
        told = None
        if evaluation is not None:
            name, digest = name_of(checkpoint), checkpoint.digest
            assert digest is not None
            told = read_evaluation(evaluation, name=name, digest=digest)
        return policy_card(checkpoint, folder=folder, license_id=license_id, evaluation=told)
    if evaluation is not None:
        raise ExportError(
            f"--evaluation: of policies alone; this is a checkpoint of kind "
            f"{checkpoint.config.kind!r}"
        )
    return language_card(checkpoint, folder=folder, license_id=license_id)


def _require_equal(expected: Mapping[str, Tensor], got: Mapping[str, Tensor]) -> None:
    differing = sorted(expected.keys() ^ got.keys())
    differing += [
        name
        for name, tensor in expected.items()
        if name in got and not (tensor.dtype == got[name].dtype and torch.equal(tensor, got[name]))
    ]
    if differing:
        raise ExportError(f"tensors differ after reading them again: {', '.join(differing[:5])}")
