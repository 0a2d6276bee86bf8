"""What our two faces for models of Hugging Face have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainer.models.requirements import require


def require_path_or_shape(
    path: str | None, model_type: str | None, overrides: Mapping[str, Any]
) -> None:
    """Raises ConfigurationError for a model that is given in both ways, or in none."""
    require(
        (path is None) != (model_type is None),
        "path, model_type",
        "exactly one of them",
        (path, model_type),
    )
    require(
        path is None or not overrides,
        "overrides",
        "none beside a path, whose own configuration holds",
        dict(overrides),
    )


def checkpoint_activations(model: Any, enabled: bool) -> None:
    """Of a transformers model, under the name that its version has: 5.24 deprecates 5.17's."""
    is_new = hasattr(model, "activation_checkpointing_enable")
    prefix = f"{'activation' if is_new else 'gradient'}_checkpointing"
    if enabled:
        options = {f"{prefix}_kwargs": {"use_reentrant": False}}
        getattr(model, f"{prefix}_enable")(**options)
    else:
        getattr(model, f"{prefix}_disable")()
