"""A network in a folder: its shape in JSON, its weights in safetensors, nothing else needed.

    model.safetensors   every tensor of the network
    config.json         its configuration; a network of Hugging Face's by its shape, not by a path

Apart from a policy's checkpoint (`trainer.checkpoint`), which knows a robot besides.
"""

from __future__ import annotations

import json
import typing
from collections.abc import Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
from torch import Tensor, nn

from trainer.atomic_directory import atomic_directory
from trainer.configuration_json import did_you_mean
from trainer.models.action.configuration import (
    ActionSpaceConfig,
    CrossAttentionConfig,
    FlowConfig,
    ObservationTokenConfig,
    TimeConfig,
)
from trainer.models.action.diffusion import DiffusionConfig
from trainer.models.adaptation import AdaptationConfig
from trainer.models.hugging_face import HuggingFaceBackbone, HuggingFaceConfig
from trainer.models.hugging_face_common import shape_of
from trainer.models.hugging_face_language import (
    HuggingFaceLanguageConfig,
    HuggingFaceLanguageModel,
)
from trainer.models.hugging_face_vision import HuggingFaceVisionConfig, HuggingFaceVisionTower
from trainer.models.language.configuration import LanguageConfig, TransformerConfig
from trainer.models.language.language_model import LanguageModel
from trainer.models.vision.configuration import (
    ConvolutionalTowerConfig,
    VisionTransformerConfig,
)
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.models.vision_language_action import (
    VisionLanguageAction,
    VisionLanguageActionConfig,
)
from trainer.requirements import ConfigurationError
from trainer.tensor_file import write_tensors

MODEL_FORMAT = "assay.model/1"
WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"

# What a folder can hold: a configuration and the network that it describes.
NETWORKS: Mapping[type, type[nn.Module]] = {
    LanguageConfig: LanguageModel,
    HuggingFaceLanguageConfig: HuggingFaceLanguageModel,
    VisionLanguageConfig: VisionLanguageModel,
    HuggingFaceConfig: HuggingFaceBackbone,
    VisionLanguageActionConfig: VisionLanguageAction,
}
_PARTS = (
    TransformerConfig,
    VisionTransformerConfig,
    ConvolutionalTowerConfig,
    HuggingFaceVisionConfig,
    AdaptationConfig,
    ActionSpaceConfig,
    FlowConfig,
    TimeConfig,
    DiffusionConfig,
    ObservationTokenConfig,
    CrossAttentionConfig,
)
_KINDS: Mapping[str, type[Any]] = {kind.__name__: kind for kind in (*NETWORKS, *_PARTS)}
# Says which configuration an object is; no field has such a name.
_KIND = "$kind"


class ModelFolderError(ValueError):
    """A folder that holds no network of the format known here."""


def write_model(
    network: Any,
    path: Path,
    *,
    notes: Mapping[str, Any] | None = None,
    files: Mapping[str, bytes] | None = None,
) -> None:
    """Write a network, what is known of it, and files beside it, atomically.

    Raises FileExistsError, OSError.
    """
    config = self_contained_config(network)
    head = {"format": MODEL_FORMAT, "model": _to_json(config), "notes": dict(notes or {})}
    with atomic_directory(path) as folder:
        write_tensors(_distinct_tensors(network), folder / WEIGHTS_FILE)
        # safetensors makes a file for this user alone.
        (folder / WEIGHTS_FILE).chmod(0o644)
        (folder / CONFIG_FILE).write_text(json.dumps(head, indent=2) + "\n")
        for name, content in (files or {}).items():
            (folder / name).write_bytes(content)


def read_model(path: Path) -> Any:
    """The network in evaluation mode, every tensor accounted for. Raises ModelFolderError."""
    network = NETWORKS[type(config := read_model_config(path))](config)
    try:
        weights = safetensors.torch.load_file(path / WEIGHTS_FILE)
    except (OSError, safetensors.SafetensorError) as error:
        raise ModelFolderError(f"{path / WEIGHTS_FILE}: cannot be read: {error}") from error
    load_strictly(network, weights, path / WEIGHTS_FILE)
    return network.eval()


def read_model_config(path: Path) -> Any:
    """The configuration of the network in a folder."""
    file = path / CONFIG_FILE
    try:
        head = json.loads(file.read_text())
        if not isinstance(head, dict) or head.get("format") != MODEL_FORMAT:
            found = head.get("format") if isinstance(head, dict) else head
            raise ModelFolderError(f"{file}: expected format {MODEL_FORMAT!r}, got {found!r:.80}")
        config = _from_json(head["model"], "model")
    except (OSError, ValueError, KeyError, TypeError) as error:
        if isinstance(error, ModelFolderError):
            raise
        raise ModelFolderError(f"{file}: not a network that this version reads: {error}") from error
    if type(config) not in NETWORKS:
        raise ModelFolderError(f"{file}: {type(config).__name__} describes no whole network")
    return config


def load_strictly(network: nn.Module, weights: Mapping[str, Tensor], source: object) -> None:
    """Raises ModelFolderError that names what is missing, unexpected or of another shape."""
    network.load_state_dict(require_tensors_of(network, weights, source), strict=True)


def require_tensors_of(
    network: nn.Module, weights: Mapping[str, Tensor], source: object
) -> dict[str, Tensor]:
    """The weights, under every name that the network has for them. Raises ModelFolderError."""
    own = network.state_dict(keep_vars=True)
    given = dict(weights)
    # A tensor that has two names, as tied embeddings have, is written under one.
    names = {id(tensor): name for name, tensor in own.items() if name in given}
    for name, tensor in own.items():
        if name not in given and id(tensor) in names:
            given[name] = given[names[id(tensor)]]
    missing, unexpected = sorted(own.keys() - given.keys()), sorted(given.keys() - own.keys())
    if missing or unexpected:
        raise ModelFolderError(
            f"{source}: the tensors are not those of the model: "
            f"missing {_some(missing)}, unexpected {_some(unexpected)}"
        )
    for name, tensor in own.items():
        if tensor.shape != given[name].shape:
            raise ModelFolderError(
                f"{source}: {name}: expected shape {tuple(tensor.shape)}, "
                f"got {tuple(given[name].shape)}"
            )
    return given


def self_contained_config(network: Any) -> Any:
    """A network's configuration without a path: its shape alone, as it would be built again."""
    config = network.config
    if isinstance(network, VisionLanguageAction):
        return replace(config, backbone=self_contained_config(network.backbone))
    if isinstance(network, VisionLanguageModel):
        language, vision = map(self_contained_config, (network.language, network.vision))
        return replace(config, language=language, vision=vision)
    if isinstance(network, HuggingFaceLanguageModel):
        shape = shape_of(network.model.config, network.vocabulary_size)
        return replace(config, path=None, gguf_file=None, num_blocks=None, **shape)
    if isinstance(network, HuggingFaceVisionTower):
        return replace(config, path=None, **shape_of(network.model.config))
    if isinstance(network, HuggingFaceBackbone):
        # Its last row is the observation token, which building it adds.
        shape = shape_of(network.model.config, network.observation_token_id)
        return replace(config, path=None, **shape)
    return config


def _distinct_tensors(network: nn.Module) -> dict[str, Tensor]:
    """Under one name each: safetensors holds no tensor twice."""
    found: dict[int, tuple[str, Tensor]] = {}
    for name, tensor in network.state_dict(keep_vars=True).items():
        found.setdefault(id(tensor), (name, tensor))
    return {name: tensor.detach().cpu().contiguous() for name, tensor in found.values()}


def _to_json(value: Any) -> Any:
    if is_dataclass(value) and not isinstance(value, type):
        own = {field.name: _to_json(getattr(value, field.name)) for field in fields(value)}
        return {_KIND: type(value).__name__, **own}
    return dict(value) if isinstance(value, Mapping) else value


def _from_json(value: Any, path: str) -> Any:
    if isinstance(value, dict) and _KIND in value:
        value = dict(value)
        name = value.pop(_KIND)
        if name not in _KINDS:
            raise ConfigurationError(f"{path}: unknown {name!r}{did_you_mean(name, _KINDS)}")
        kind = _KINDS[name]
        hints = typing.get_type_hints(kind)
        for key in value:
            if key not in hints:
                raise ConfigurationError(
                    f"{path}: unknown field {key!r} of {name}{did_you_mean(key, hints)}"
                )
        return kind(**{key: _from_json(item, f"{path}.{key}") for key, item in value.items()})
    # Of our own fields only `targets` and such hold several values, as tuples.
    return tuple(value) if isinstance(value, list) else value


def _some(names: list[str]) -> str:
    if not names:
        return "none"
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
