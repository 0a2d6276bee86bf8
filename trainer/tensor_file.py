"""Tensors in a safetensors file, and a disk that has no room for them."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor

_NUMBER = re.compile(r"\(os error (\d+)\)")


def write_tensors(tensors: Mapping[str, Tensor], path: Path) -> None:
    """Contiguous tensors that share no memory. Raises OSError where the file cannot be written."""
    try:
        safetensors.torch.save_file(dict(tensors), path)
    except safetensors.SafetensorError as error:
        # Its own error for what the system refuses, which nobody who handles a full disk expects.
        number = _NUMBER.search(str(error))
        if number is None:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from error
