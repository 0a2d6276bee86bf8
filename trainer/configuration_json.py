"""Configurations to JSON and back, strictly: unknown keys are errors, with a suggestion."""

from __future__ import annotations

import collections.abc
import dataclasses
import difflib
import json
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

from trainer.foundry.configuration import FoundryPolicyConfig
from trainer.policy_configuration import PolicyConfig, TrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_configuration import KINDS, RunConfig
from trainer.vision_language_action_configuration import ExpertShape

_Config = TypeVar("_Config")

# Keys that configurations did not always have, and what those without them meant.
_ADDED: dict[str, Any] = {
    "more_data": (),
    "init": "",
    "init_except": (),
    "normalization.method": "quantiles",
    "normalization.centered": True,
    "augmentation.crop_fraction": 1.0,
    "augmentation.saturation": 0.0,
    "augmentation.hue": 0.0,
    "augmentation.blur_pixels": 0.0,
    "optimizer.kind": "adamw",
    "optimizer.matrix_learning_rate": 0.02,
    "optimizer.momentum": 0.95,
    "optimizer.schedule": "cosine",
    "optimizer.decay_fraction": 0.2,
    "optimizer.spike_factor": None,
    "optimizer.multipliers": (),
    "model.bidirectional_prefix": False,
    "compile": False,
    "checkpoint_activations": False,
    "sharding": {"kind": "none", "cpu_offload": False},
    "portions_above_mib": 256.0,
    "model.baseline": None,
    "model.image_word": "<image>",
    "model.backbone.chat.before_images": "",
    "model.backbone.chat.lead": "",
    "model.language.chat.before_images": "",
    "model.language.chat.lead": "",
    "model.language.num_blocks": None,
    "also": {
        "data": (),
        "batch_size": 4,
        "validation_documents": 32,
        "validation_sequences": 64,
        "num_answers": 2,
    },
    "evaluate": {
        "every": None,
        "tasks": (),
        "episodes": "1000000:1000010",
        "workers": 1,
        "device": "cpu",
    },
    "loader": {"cache_gib": 4.0, "num_workers": None, "num_batches_ahead": 3},
    "micro_batch_size": None,
    "also.micro_batch_size": None,
    "serving.solver": "euler",
    "model.action_clamp": None,
    "model.input_noise": 0.0,
    "ema.schedule": "ratio",
    "ema.power": 0.75,
    "ema.inverse_gamma": 1.0,
    "model.vision.modulated_views": 0,
    "model.vision.modulation_width": 64,
    "history": {"frames": (0,), "past_steps": 0, "proprioception": True},
}
# The same, of one class, where another one has always had a key of that name in its place.
_ADDED_TO: Mapping[type[Any], Mapping[str, Any]] = {ExpertShape: {"time_conditioning": "concat"}}


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """` (did you mean 'x'?)` for the nearest known name, or nothing."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f" (did you mean {close[0]!r}?)" if close else ""


def config_to_json(config: RunConfig | PolicyConfig | FoundryPolicyConfig) -> str:
    return json.dumps({"kind": config.kind, **dataclasses.asdict(config)}, indent=2) + "\n"


def policy_config_from_json(text: str) -> PolicyConfig | FoundryPolicyConfig:
    """A policy's, trained here or imported. Raises ConfigurationError for anything else, naming
    the field."""
    config = _of_kind(text, {**KINDS, FoundryPolicyConfig.kind: FoundryPolicyConfig})
    if not isinstance(config, PolicyConfig | FoundryPolicyConfig):
        raise ConfigurationError(f"kind: expected a policy's, got {config.kind!r}")
    return config


def config_from_json(text: str) -> RunConfig:
    """Of any kind that is trained. Raises ConfigurationError for what is no configuration, naming
    the field."""
    return _of_kind(text, KINDS)


def _of_kind(text: str, kinds: Mapping[str, type[_Config]]) -> _Config:
    try:
        fields = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"configuration: not JSON: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigurationError(f"configuration: expected an object, got {fields!r:.80}")
    # Once there were policies alone, and nothing said so.
    kind = fields.pop("kind", TrainConfig.kind)
    if not isinstance(kind, str) or kind not in kinds:
        raise ConfigurationError(
            f"kind: expected one of {list(kinds)}, got {kind!r}{did_you_mean(str(kind), kinds)}"
        )
    return _read_dataclass(kinds[kind], fields, "")


def config_differences(first: RunConfig, second: RunConfig) -> list[str]:
    """`field: first's value, second's value` for each field that differs."""
    if first.kind != second.kind:
        return [f"kind: {first.kind!r}, now {second.kind!r}"]
    before, after = configuration_fields(first), configuration_fields(second)
    return [
        f"{name}: {before.get(name)!r}, now {after.get(name)!r}"
        for name in before | after
        if before.get(name) != after.get(name)
    ]


def configuration_fields(config: RunConfig) -> dict[str, Any]:
    """Every value by its name, such as `optimizer.learning_rate`; the kind is the first."""
    return {"kind": config.kind, **leaves(dataclasses.asdict(config))}


def leaves(fields: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """What is in nested mappings, by names with dots."""
    found: dict[str, Any] = {}
    for name, value in fields.items():
        if isinstance(value, dict) and value:
            found |= leaves(value, f"{prefix}{name}.")
        else:
            found[prefix + name] = value
    return found


def field_types(kind: type[Any]) -> dict[str, Any]:
    """Of each field of a configuration the type, with its annotations."""
    types_of = typing.get_type_hints(kind, include_extras=True)
    return {one.name: types_of[one.name] for one in dataclasses.fields(kind)}


def _read_dataclass(kind: type[_Config], fields: Any, path: str) -> _Config:
    if not isinstance(fields, dict):
        raise ConfigurationError(
            f"{path.removesuffix('.') or 'configuration'}: expected an object, got {fields!r:.80}"
        )
    hints = field_types(kind)
    for name in fields:
        if name not in hints:
            raise ConfigurationError(
                f"unknown configuration key {path + name!r}{did_you_mean(name, hints)}"
            )
    added = {name: _ADDED[path + name] for name in hints if path + name in _ADDED}
    fields = {**added, **_ADDED_TO.get(kind, {}), **fields}
    # Every key must be there: a default that changed since would make another run of this one.
    missing = [path + name for name in hints if name not in fields]
    if missing:
        raise ConfigurationError(f"missing configuration keys {missing}")
    return kind(**{name: read_value(hints[name], fields[name], path + name) for name in hints})


def _read_union(members: tuple[Any, ...], value: Any, path: str) -> Any:
    """Of several dataclasses the one whose fields it has most of, or None where that may be."""
    if type(None) in members:
        members = tuple(kind for kind in members if kind is not type(None))
        if value is None or len(members) == 1:
            return None if value is None else read_value(members[0], value, path)
    given = set(value) if isinstance(value, dict) else set()
    likest = max(members, key=lambda kind: len(given & {f.name for f in dataclasses.fields(kind)}))
    return read_value(likest, value, path)


def read_value(hint: Any, value: Any, path: str) -> Any:
    """What JSON has for a field of that type. Raises ConfigurationError, naming it by its path."""
    if dataclasses.is_dataclass(hint):
        return _read_dataclass(typing.cast("type[Any]", hint), value, path + ".")
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        return read_value(arguments[0], value, path)
    if origin is types.UnionType:
        return _read_union(arguments, value, path)
    if origin is collections.abc.Mapping and isinstance(value, dict):
        # Of Hugging Face's own making: who builds it says what is wrong with it.
        return value
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(read_value(arguments[0], item, f"{path}[{i}]") for i, item in enumerate(value))
    if origin is typing.Literal and value in arguments:
        return value
    if isinstance(value, int) and abs(value) >= 2**63:
        raise ConfigurationError(f"{path}: expected a number of 64 bits, got {value!r:.80}")
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, int) and not isinstance(value, bool):
        return value
    if hint is bool and isinstance(value, bool):
        return value
    if hint is str and isinstance(value, str):
        return value
    expected = (
        f"one of {list(arguments)}"
        if origin is typing.Literal
        else getattr(hint, "__name__", str(hint))
    )
    raise ConfigurationError(f"{path}: expected {expected}, got {value!r:.80}")
