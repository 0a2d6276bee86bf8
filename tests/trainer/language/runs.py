"""A small language, and what tests of its trainings do to runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from trainer.language_checkpoint import read_language_checkpoint

_SUBJECTS, _VERBS = ("the mug", "the box", "a bowl", "the lid"), ("stands", "falls", "turns")
_PLACES = ("on the shelf", "under the table", "beside the robot")


def sentences(seed: int, count: int) -> str:
    """A language of 36 sentences: after its first words each is half told."""
    rng = np.random.default_rng(seed)
    drawn = [rng.choice(words, count) for words in (_SUBJECTS, _VERBS, _PLACES)]
    return " ".join(f"{' '.join(parts)}." for parts in zip(*drawn, strict=True))


def weights(run: Path, name: str = "final") -> dict[str, torch.Tensor]:
    return dict(read_language_checkpoint(run / "checkpoints" / name).weights)
