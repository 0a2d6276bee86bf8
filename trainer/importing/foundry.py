"""A model of VLA Foundry, as it trains and publishes them, made ours.

    config.yaml               the resolved configuration: model, data
    vlm_config_model.yaml     the vision-language model's, under a policy on one of its own
    config_normalizer.yaml    how actions and states were scaled
    stats.json                the statistics for it
    preprocessing_config.yaml how pictures were resized
    checkpoints/checkpoint_N.pt, ema_N.pt

Tensors are read with `weights_only`: a stranger's file runs no code here.
"""

from __future__ import annotations

import pickle
import re
import reprlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor, nn

from trainer.data.locations import Location
from trainer.importing.errors import ImportingError
from trainer.importing.foundry_hugging_face import (
    hugging_face_config,
    hugging_face_weights,
    is_on_hugging_face,
)
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
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.language_model import LanguageModel
from trainer.models.model_folder import ModelFolderError, load_strictly, require_tensors_of
from trainer.models.vision_language import VisionLanguageConfig, VisionLanguageModel
from trainer.models.vision_language_action import (
    VisionLanguageAction,
    VisionLanguageActionConfig,
)
from trainer.requirements import ConfigurationError

_CHECKPOINT = re.compile(r"checkpoint_(\d+)\.pt$")
_BACKBONE = "vision_language_backbone._model."
# Far more than any configuration has.
_MAX_VALUES = 100_000


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


def import_foundry(
    source: str, *, checkpoint: str | None = None, backbone: Path | None = None
) -> Imported:
    """`checkpoint`: a file's name in checkpoints/; None for the last one. `backbone`: the folder,
    as the hub has it, of the Hugging Face model that a policy stands on.

    Raises ImportingError, DataError, OSError.
    """
    root = Location.parse(source)
    if not root.is_dir():
        raise ImportingError(f"{root}: no such folder")
    config = Section(_read_yaml(root / "config.yaml"), "config.yaml")
    model, data = config.part("model"), config.part("data")
    if backbone is not None and not is_on_hugging_face(model):
        raise ImportingError(
            f"--backbone: of policies on a Hugging Face model alone, which {root} holds none of"
        )
    file = _find_checkpoint(root, checkpoint, config)
    tensors = without_derived(_read_tensors(file))
    try:
        build, weights = _converted(root, model, data, tensors, backbone)
        # Nothing of the claimed size is made before the tensors are known to have it.
        with torch.device("meta"):
            require_tensors_of(build(), weights, file)
        network = build()
        load_strictly(network, {name: tensor.float() for name, tensor in weights.items()}, file)
    except ModelFolderError as error:
        raise ImportingError(str(error)) from error
    except (ConfigurationError, RuntimeError, OverflowError) as error:
        reason = str(error).strip().partition("\n")[0]
        raise ImportingError(f"{root}: no model can be made of it: {reason}") from error
    normalizer = root / "config_normalizer.yaml"
    statistics = root / "stats.json"
    notes = {
        "imported_from": str(file),
        "data": dict(data.fields),
        "normalizer": _read_yaml(normalizer) if normalizer.is_file() else None,
        "preprocessing": _read_preprocessing(root),
    }
    return Imported(
        network=network.eval(),
        notes=notes,
        statistics=statistics.read_bytes() if statistics.is_file() else None,
    )


def _converted(
    root: Location, model: Section, data: Section, tensors: Tensors, backbone: Path | None
) -> tuple[Callable[[], nn.Module], Tensors]:
    """What makes the network, and its weights."""
    kind = model.fields.get("type")
    if kind == "transformer":
        language = language_config(model)
        return lambda: LanguageModel(language), language_tensors(tensors)
    if kind == "vlm":
        shape = vision_language_config(model)
        assert isinstance(shape.language, LanguageConfig)
        size = shape.language.vocabulary_size
        weights = vision_language_tensors(tensors, vocabulary_size=size)
        return lambda: VisionLanguageModel(shape), weights
    if kind == "diffusion_policy":
        policy, weights = _policy(root, model, data, tensors, backbone)
        return lambda: VisionLanguageAction(policy), weights
    raise ImportingError(
        f"config.yaml.model.type: {reprlib.repr(kind)} cannot be imported; "
        "expected transformer, vlm or diffusion_policy"
    )


def _policy(
    root: Location, model: Section, data: Section, tensors: Tensors, folder: Path | None
) -> tuple[VisionLanguageActionConfig, Tensors]:
    part = model.part("vision_language_backbone")
    part.require("type", "clip_backbone", "vlm_foundry_backbone", "vlm_backbone")
    under = {name: t for name, t in tensors.items() if name.startswith(_BACKBONE)}
    own = {name.removeprefix(_BACKBONE): tensor for name, tensor in under.items()}
    shape: VisionLanguageConfig | HuggingFaceConfig
    if is_on_hugging_face(model):
        shape = hugging_face_config(part, folder)
        own = hugging_face_weights(own, shape)
    else:
        file = "vlm_config_model.yaml"
        shape = vision_language_config(Section(_read_yaml(root / file), file))
        assert isinstance(shape.language, LanguageConfig)
        own = vision_language_tensors(own, vocabulary_size=shape.language.vocabulary_size)
    weights = expert_tensors({name: t for name, t in tensors.items() if name not in under})
    config = VisionLanguageActionConfig(
        backbone=shape,
        expert=expert_config(model),
        space=action_space(model, data),
        objective=flow_config(model),
    )
    return config, prefixed(weights, "expert.") | prefixed(own, "backbone.")


def _read_preprocessing(root: Location) -> dict[str, Any] | None:
    """The first data set's, where there is one for each; older folders name the file otherwise."""
    for name in ("preprocessing_config.yaml", "preprocessing_configs.yaml"):
        if (root / name).is_file():
            fields: Any = _read_yaml(root / name)
            if fields and all(isinstance(key, int) for key in fields):
                fields = fields.get(0)
            return fields if isinstance(fields, dict) else None
    return None


class _Loader(yaml.SafeLoader):
    """Days stay the text that they are: JSON has no other."""

    yaml_implicit_resolvers = {  # noqa: RUF012 (PyYAML's own way to say it)
        first: [each for each in known if each[0] != "tag:yaml.org,2002:timestamp"]
        for first, known in yaml.SafeLoader.yaml_implicit_resolvers.items()
    }


def _read_yaml(file: Location) -> dict[str, Any]:
    if not file.is_file():
        raise ImportingError(f"{file}: missing")
    try:
        fields = yaml.load(file.read_text(), Loader=_Loader)  # noqa: S506 (a safe one)
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ImportingError(f"{file}: not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(fields, dict):
        raise ImportingError(f"{file}: expected fields, got {reprlib.repr(fields)}")
    _require_plain(fields, file)
    return fields


def _require_plain(fields: Mapping[str, Any], file: Location) -> None:
    """Values that JSON has, and not too many: by aliases a few lines of YAML are billions."""
    waiting: list[Any] = [fields]
    count = 0
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict | list):
            count += len(value)
            if count > _MAX_VALUES:
                raise ImportingError(f"{file}: more than {_MAX_VALUES} values")
            if isinstance(value, dict):
                waiting += value.keys()
                waiting += value.values()
            else:
                waiting += value
        elif not isinstance(value, str | int | float | None):
            raise ImportingError(f"{file}: expected plain values, got {reprlib.repr(value)}")


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
    except OSError:
        raise
    # What a damaged file makes the unpickler raise is any error there is.
    except Exception as error:
        reason = str(error).strip().partition("\n")[0]
        raise ImportingError(f"{file}: no file that torch.save wrote whole: {reason}") from error
    for key in ("state_dict", "ema_state_dict"):
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            tensors = content[key]
            if all(map(_is_plain_tensor, tensors.keys(), tensors.values())):
                return without_wrappers(tensors)
    raise ImportingError(f"{file}: expected a state_dict of dense tensors of numbers, got none")


def _is_plain_tensor(name: object, tensor: object) -> bool:
    return (
        isinstance(name, str)
        and isinstance(tensor, Tensor)
        and tensor.layout == torch.strided
        and not tensor.is_complex()
    )
