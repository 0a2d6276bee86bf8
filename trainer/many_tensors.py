"""One operation on many tensors at once: on a GPU each alone costs the host as much as a large one.

By the functions that torch makes its own optimizers of; their names begin with an underscore.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def move_towards(tensors: Sequence[Tensor], targets: Sequence[Tensor], fraction: float) -> None:
    """In place, each a fraction of the way to its target."""
    torch._foreach_lerp_(list(tensors), list(targets), fraction)  # pyright: ignore[reportPrivateImportUsage]


def between(starts: Sequence[Tensor], ends: Sequence[Tensor], fraction: float) -> list[Tensor]:
    """Of each pair what lies a fraction of the way from its start."""
    return list(torch._foreach_lerp(list(starts), list(ends), fraction))  # pyright: ignore[reportPrivateImportUsage]


def scale(tensors: Sequence[Tensor], factor: float) -> None:
    """In place."""
    torch._foreach_mul_(list(tensors), factor)  # pyright: ignore[reportPrivateImportUsage]


def subtract(tensors: Sequence[Tensor], others: Sequence[Tensor], factor: float) -> None:
    """In place, of each `factor` times the other."""
    torch._foreach_add_(list(tensors), list(others), alpha=-factor)  # pyright: ignore[reportPrivateImportUsage]
