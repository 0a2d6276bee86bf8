"""A model of VLA Foundry, as it trains and publishes them, made ours.

    config.yaml               the resolved configuration: model, data
    vlm_config_model.yaml     the vision-language model's, under a policy on one of its own
    config_normalizer.yaml    how actions and states were scaled
    stats.json                the statistics for it
    checkpoints/checkpoint_N.pt, ema_N.pt

Tensors are read with `weights_only`: a stranger's file runs no code here.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from trainer.data.locations import Location
from trainer.importing.errors import ImportingError
from trainer.importing.foundry_shapes import (
    Section,
    action_space,
    expert_config,
    flow_config,
    language_config,
    vision_language_config,
)
from trainer.importing.foundry_tensors import (
    Tensors,
    expert_tensors,
    language_tensors,
    prefixed,
    vision_language_tensors,
    without_derived,
    without_wrappers,
)
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.language_model import LanguageModel
from trainer.models.model_folder import ModelFolderError, load_strictly
from trainer.models.vision_language import VisionLanguageModel
from trainer.models.vision_language_action import (
    VisionLanguageAction,
    VisionLanguageActionConfig,
)

_CHECKPOINT = re.compile(r"checkpoint_(\d+)\.pt$")
_BACKBONE = "vision_language_backbone._model."


@dataclass(frozen=True, kw_only=True)
class Imported:
    """A network with its weights, and what else the release says.

    Attributes:
        network: In float32, in evaluation mode.
        notes: Where it comes from, its data fields and its normaliser, as the files have them.
        statistics: The bytes of stats.json; None where there is none.
    """

    network: nn.Module
    notes: Mapping[str, Any]
    statistics: bytes | None


def import_foundry(source: str, *, checkpoint: str | None = None) -> Imported:
    """`checkpoint`: a file's name in checkpoints/; None for the last one.

    Raises ImportingError, DataError, OSError.
    """
    root = Location.parse(source)
    if not root.is_dir():
        raise ImportingError(f"{root}: no such folder")
    config = Section(_read_yaml(root / "config.yaml"), "config.yaml")
    model, data = config.part("model"), config.part("data")
    file = _find_checkpoint(root, checkpoint, config)
    tensors = without_derived(_read_tensors(file))
    kind = model.need("type")
    if kind == "transformer":
        network: nn.Module = LanguageModel(language_config(model))
        weights = language_tensors(tensors)
    elif kind == "vlm":
        shape = vision_language_config(model)
        network = VisionLanguageModel(shape)
        size = network.language.vocabulary_size
        weights = vision_language_tensors(tensors, vocabulary_size=size)
    elif kind == "diffusion_policy":
        network, weights = _policy(root, model, data, tensors)
    else:
        raise ImportingError(
            f"config.yaml.model.type: {kind!r} cannot be imported; "
            "expected transformer, vlm or diffusion_policy"
        )
    floats = {name: tensor.float() for name, tensor in weights.items()}
    try:
        load_strictly(network, floats, file)
    except ModelFolderError as error:
        raise ImportingError(str(error)) from error
    normalizer = root / "config_normalizer.yaml"
    statistics = root / "stats.json"
    notes = {
        "imported_from": str(file),
        "data": dict(data.fields),
        "normalizer": _read_yaml(normalizer) if normalizer.is_file() else None,
    }
    return Imported(
        network=network.eval(),
        notes=notes,
        statistics=statistics.read_bytes() if statistics.is_file() else None,
    )


def _policy(
    root: Location, model: Section, data: Section, tensors: Tensors
) -> tuple[VisionLanguageAction, Tensors]:
    part = model.part("vision_language_backbone")
    # Of one on a Hugging Face model our outputs were not the original's: better none than those.
    part.require("type", "clip_backbone", "vlm_foundry_backbone")
    under = {name: t for name, t in tensors.items() if name.startswith(_BACKBONE)}
    own = {name.removeprefix(_BACKBONE): tensor for name, tensor in under.items()}
    file = "vlm_config_model.yaml"
    shape = vision_language_config(Section(_read_yaml(root / file), file))
    assert isinstance(shape.language, LanguageConfig)
    weights = expert_tensors({name: t for name, t in tensors.items() if name not in under})
    weights = prefixed(weights, "expert.") | prefixed(
        vision_language_tensors(own, vocabulary_size=shape.language.vocabulary_size), "backbone."
    )
    config = VisionLanguageActionConfig(
        backbone=shape,
        expert=expert_config(model),
        space=action_space(model, data),
        objective=flow_config(model),
    )
    return VisionLanguageAction(config), weights


def _read_yaml(file: Location) -> dict[str, Any]:
    if not file.is_file():
        raise ImportingError(f"{file}: missing")
    try:
        fields = yaml.safe_load(file.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ImportingError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise ImportingError(f"{file}: expected fields, got {fields!r:.80}")
    return fields


def _find_checkpoint(root: Location, name: str | None, config: Section) -> Location:
    """The file of the weights that the original would serve: the averaged ones, where it has."""
    folder = root / "checkpoints"
    if name is not None:
        if not (folder / name).is_file():
            raise ImportingError(f"{folder / name}: missing")
        return folder / name
    found = {
        int(match[1]): child
        for child in (folder.children() if folder.is_dir() else [])
        if (match := _CHECKPOINT.match(child.name))
    }
    if not found:
        raise ImportingError(f"{folder}: no checkpoint_N.pt")
    number = max(found)
    averaged = folder / f"ema_{number}.pt"
    is_averaged = config.part("ema").get("enabled", False) and averaged.is_file()
    return averaged if is_averaged else found[number]


def _read_tensors(file: Location) -> Tensors:
    try:
        content = torch.load(file.local(), map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise ImportingError(
            f"{file}: holds more than tensors and plain values, and is not unpickled: "
            "that would run its code"
        ) from error
    except (RuntimeError, EOFError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ImportingError(f"{file}: no file that torch.save wrote whole: {reason}") from error
    for key in ("state_dict", "ema_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            tensors = content[key]
            if all(isinstance(tensor, Tensor) for tensor in tensors.values()):
                return without_wrappers(tensors)
    raise ImportingError(f"{file}: expected a state_dict of tensors, got none")
