"""Models that speak, on the device that was asked for."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import torch

from policy_interface.usage import UsageError
from trainer.scarce_memory import is_out_of_memory
from trainer.speaker import Speaker, read_speaker

_Module = TypeVar("_Module", bound=torch.nn.Module)


def moved(model: _Module, verb: str, device: str) -> _Module:
    """Raises UsageError where there is no such device."""
    try:
        return model.to(device)
    except (RuntimeError, AssertionError) as error:
        if is_out_of_memory(error):
            raise
        reason = str(error).partition("\n")[0]
        raise UsageError(f"{verb}: --device {device}: {reason}") from error


def moved_speaker(path: Path, verb: str, device: str) -> Speaker:
    """Raises UsageError, and CheckpointError for one that does not speak."""
    speaker = read_speaker(path)
    return replace(speaker, model=moved(speaker.model, verb, device))
