"""What our two faces for models of Hugging Face have in common."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from typing import Any, Self

import torch
from torch import nn

from trainer.requirements import ConfigurationError, require
from trainer.scarce_memory import is_out_of_memory

# Of a configuration: code to be fetched, where it came from, and how it would be run.
_NO_SHAPE = ("auto_map", "quantization_config", "transformers_version", "dtype", "torch_dtype")

# What is left out by chance while a model trains: numbers, and whole blocks.
_DROPOUTS = ("dropout", "dropout_prob", "drop_path_rate")

# Of a list of tensors, as many are named.
_MOST_NAMED = 3


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


class AdaptedModel(nn.Module):
    """A transformers model as a part of one of our networks. Whoever extends it sets both:

    model: of transformers. config: says by its `adaptation` how much of it is trained.
    """

    model: Any
    config: Any

    def blocks(self) -> Iterable[nn.Module]:
        """What to compile and to shard one by one."""
        raise NotImplementedError

    def train(self, mode: bool = True) -> Self:
        """A frozen model stays as it is served: it has no dropout to train against."""
        return super().train(mode and self.config.adaptation.kind != "frozen")

    def checkpoint_activations(self, enabled: bool = True) -> None:
        checkpoint_activations(self.model, enabled)

    def compile_blocks(self, **options: Any) -> None:
        """Compile each block in place."""
        for block in self.blocks():
            block.compile(**options)


def load_pretrained(kind: Any, path: str, *, attention: str, **options: Any) -> Any:
    """A transformers model in float32 with the weights of a folder, none missing, none left over,
    none pickled, and without dropout.

    Raises ConfigurationError of one line for a folder that holds no such model, and what memory
    that runs out raises as it is.
    """
    from transformers import AutoConfig

    try:
        # A GGUF file's knows no dropout.
        if "gguf_file" not in options:
            options["config"] = _without_dropout(
                AutoConfig.from_pretrained(path, trust_remote_code=False)
            )
            options["use_safetensors"] = True
        model, found = kind.from_pretrained(
            path,
            attn_implementation=attention,
            dtype=torch.float32,
            output_loading_info=True,
            trust_remote_code=False,
            **options,
        )
    except (OSError, ValueError, RuntimeError, ImportError, KeyError, TypeError) as error:
        if is_out_of_memory(error):
            raise
        reason = " ".join(str(error).split())
        raise ConfigurationError(
            f"{path}: no {kind.__name__} that transformers reads: {reason:.300}"
        ) from error
    wrong = {
        what: sorted(map(str, found.get(f"{what}_keys", ()))) for what in ("missing", "unexpected")
    }
    if any(wrong.values()):
        told = [f"{what} {_some(names)}" for what, names in wrong.items()]
        raise ConfigurationError(
            f"{path}: its tensors are not those of {type(model).__name__}: {'; '.join(told)}"
        )
    # As a model that is drawn: nothing here has dropout, and checkpointing asks for it.
    return model.train()


def shape_of(config: Any, vocabulary_size: int | None = None) -> dict[str, Any]:
    """A transformers configuration in JSON: `model_type`, and every field as `overrides`.

    vocabulary_size: of its words; None for a model without any.
    """
    overrides = cleaned(json.loads(config.to_json_string(use_diff=False)))
    if vocabulary_size is not None:
        overrides.get("text_config", overrides)["vocab_size"] = vocabulary_size
    return {"model_type": overrides.pop("model_type"), "overrides": overrides}


def first_blocks(fields: dict[str, Any], num_blocks: int, name: str) -> None:
    """Of a transformers configuration's fields, in place, those of its first decoder blocks alone.

    name: of what asks for so many, for errors. Raises ConfigurationError for more than there are.
    """
    depth = fields["num_hidden_layers"]
    require(num_blocks <= depth, name, f"at most {depth}, which the model has", num_blocks)
    fields["num_hidden_layers"] = num_blocks
    # Of some architectures what kind each block is of.
    if fields.get("layer_types"):
        fields["layer_types"] = fields["layer_types"][:num_blocks]


def cleaned(fields: Mapping[str, Any]) -> dict[str, Any]:
    """Without what is no shape, at any depth, and without dropout, which no resume could repeat."""
    kept: dict[str, Any] = {}
    for name, value in fields.items():
        if name.startswith("_") or name in _NO_SHAPE:
            continue
        if isinstance(value, Mapping):
            kept[name] = cleaned(value)
        elif _is_dropout(name, value):
            kept[name] = 0.0
        else:
            kept[name] = value
    return kept


def _is_dropout(name: str, value: Any) -> bool:
    return name.endswith(_DROPOUTS) and isinstance(value, float)


def _without_dropout(config: Any) -> Any:
    """A transformers configuration, in place, at any depth."""
    for name, value in vars(config).items():
        if _is_dropout(name, value):
            setattr(config, name, 0.0)
        elif hasattr(value, "model_type"):
            _without_dropout(value)
    return config


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - _MOST_NAMED} more" if len(names) > _MOST_NAMED else ""
    return ", ".join(names[:_MOST_NAMED]) + more
