"""`features.json` of a TensorFlow data set: what a step of an RLDS episode holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from trainer.data.episode import Field, FieldRole
from trainer.data.errors import DataError
from trainer.data.locations import Location

_STEPS = "steps"
# The step's text that the robot was told, by the names that data sets have for it.
_INSTRUCTIONS = ("language_instruction", "natural_language_instruction", "instruction")


@dataclass(frozen=True, kw_only=True)
class ImageFeature:
    """height, width: None where they differ from episode to episode."""

    height: int | None
    width: int | None
    encoding: str


@dataclass(frozen=True, kw_only=True)
class StepFeatures:
    """fields, images: by their names in a step, such as observation/image. instruction: the text of
    a step. texts: other texts of the episode. left_out: what the view does not show, and why."""

    fields: Mapping[str, Field]
    images: Mapping[str, ImageFeature]
    instruction: str | None
    metadata: tuple[str, ...]
    left_out: Mapping[str, str]


def parse_features(told: Mapping[str, Any], folder: Location) -> StepFeatures:
    """Raises DataError for a data set whose examples are no episodes of steps."""
    try:
        features = told["featuresDict"]["features"]
        steps = features[_STEPS]["sequence"]["feature"]["featuresDict"]["features"]
    except (KeyError, TypeError) as error:
        raise DataError(
            f"no RLDS data set: its examples are no episodes with {_STEPS!r}", where=folder
        ) from error
    fields: dict[str, Field] = {}
    images: dict[str, ImageFeature] = {}
    texts: list[str] = []
    left_out: dict[str, str] = {}
    for name, feature in _leaves(steps):
        if "image" in feature:
            height, width, channels = _shape(feature["image"])
            if channels != 3 or feature["image"].get("dtype", "uint8") != "uint8":
                left_out[name] = f"has {channels} channels of {feature['image'].get('dtype')}"
                continue
            encoding = feature["image"].get("encodingFormat") or "png"
            images[name] = ImageFeature(
                height=height, width=width, encoding="jpeg" if encoding == "jpeg" else "png"
            )
        elif "text" in feature:
            texts.append(name)
        elif "tensor" in feature:
            reason = _why_not(feature["tensor"])
            if reason is None:
                fields[name] = _field(name, feature["tensor"])
            elif feature["tensor"].get("dtype") == "string":
                texts.append(name)
            else:
                left_out[name] = reason
        else:
            left_out[name] = str(feature.get("pythonClassName", "of a kind not known"))
    instruction = next((name for name in texts if name.rsplit("/", 1)[-1] in _INSTRUCTIONS), None)
    left_out |= {name: "a text" for name in texts if name != instruction}
    others = {name: feature for name, feature in features.items() if name != _STEPS}
    return StepFeatures(
        fields=fields,
        images=images,
        instruction=instruction,
        metadata=tuple(name for name, _ in _leaves(others)),
        left_out=left_out,
    )


def _leaves(
    features: Mapping[str, Any], prefix: str = ""
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Names as the examples have them, with slashes between the parts."""
    for name, feature in features.items():
        if "featuresDict" in feature:
            yield from _leaves(feature["featuresDict"]["features"], f"{prefix}{name}/")
        else:
            yield prefix + name, feature


def _shape(told: Mapping[str, Any]) -> tuple[int | None, ...]:
    dimensions = (told.get("shape") or {}).get("dimensions") or []
    return tuple(None if int(side) < 0 else int(side) for side in dimensions)


def _why_not(tensor: Mapping[str, Any]) -> str | None:
    if tensor.get("encoding", "none") != "none":
        return f"encoded as {tensor['encoding']}"
    if None in _shape(tensor):
        return "its shape varies"
    try:
        numeric = np.dtype(tensor["dtype"]).kind in "biuf"
    except TypeError:
        numeric = False
    return None if numeric else f"holds no numbers but {tensor['dtype']}"


def _field(name: str, tensor: Mapping[str, Any]) -> Field:
    role: FieldRole = "other"
    if name.startswith("observation/"):
        role = "observed"
    elif name == "action" or name.startswith("action/"):
        role = "action"
    shape = tuple(side for side in _shape(tensor) if side is not None)
    return Field(shape=shape, dtype=tensor["dtype"], role=role)
