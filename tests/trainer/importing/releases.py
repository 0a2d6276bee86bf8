"""What tests of imports share: weights that are drawn anew from a seed, pictures that are the same
everywhere, and checkpoints of which a stranger has changed the configuration."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor


def drawn_tensors(
    recorded: Mapping[str, Any], *, matrices: float, vectors: float
) -> dict[str, Tensor]:
    """By the names and shapes, from the seed, that were recorded with the original's outputs.

    matrices, vectors: their standard deviations; the weights of norms are about 1.
    """
    generator = torch.Generator().manual_seed(recorded["seed"])
    tensors: dict[str, Tensor] = {}
    for key, shape in sorted(recorded["shapes"].items()):
        is_matrix = len(shape) > 1
        offset = 1.0 if "weight" in key and not is_matrix else 0.0
        drawn = torch.randn(shape, generator=generator)
        tensors[key] = drawn * (matrices if is_matrix else vectors) + offset
    tensors |= {key: tensors[other] for key, other in recorded.get("tied", {}).items()}
    for key, size in recorded["rotary"]:
        tensors[key] = 10_000.0 ** -(torch.arange(size) / size)
    return tensors


def pattern(*shape: int, step: int = 1, period: int) -> Tensor:
    """Numbers in [-1, 1] that are the same everywhere."""
    count = torch.arange(math.prod(shape)).reshape(shape)
    return (count * step) % period / (period / 2) - 1


def change_configuration(checkpoint: Path, change: Callable[[Any], None]) -> None:
    """Of a checkpoint, whose manifest then vouches for it."""
    config = json.loads((checkpoint / "config.json").read_text())
    change(config)
    content = json.dumps(config).encode()
    (checkpoint / "config.json").write_bytes(content)
    manifest = json.loads((checkpoint / "MANIFEST.json").read_text())
    entry = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest["files"]["config.json"] = entry
    (checkpoint / "MANIFEST.json").write_text(json.dumps(manifest))
