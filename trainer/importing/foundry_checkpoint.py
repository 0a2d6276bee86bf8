"""An imported policy of VLA Foundry as a checkpoint that the server loads.

What the release's folder does not say is given: the tokenizer, the sizes of the station's pictures,
and how often it acts.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from policy_interface.contract import Contract, ContractError, ImageSize
from trainer.checkpoint import Checkpoint
from trainer.data.errors import DataError
from trainer.data.text.tokenizer import TextTokenizer
from trainer.foundry.configuration import (
    FoundryHuggingFaceShape,
    FoundryPolicyConfig,
    FoundryPolicyShape,
    FoundryShape,
    PictureConfig,
)
from trainer.foundry.network import FoundryPolicy
from trainer.foundry.prompts import FoundryPrompts
from trainer.importing.errors import ImportingError
from trainer.importing.foundry import Imported
from trainer.importing.foundry_processor import SIMPLE, processed_by
from trainer.importing.foundry_prompt import IMAGE_WORD, words_around
from trainer.importing.foundry_shapes import Section
from trainer.importing.foundry_vectors import Vectors, vectors_of
from trainer.models.action.configuration import FlowConfig, ObservationTokenConfig
from trainer.models.hugging_face import HuggingFaceConfig
from trainer.models.hugging_face_images import image_token_of
from trainer.models.language.configuration import LanguageConfig
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision_language_action import VisionLanguageAction
from trainer.policy_configuration import ServingConfig
from trainer.provenance import describe_code, now
from trainer.requirements import ConfigurationError
from trainer.training_configuration import WeightsFormat

# As the original's server has them.
_NUM_FLOW_STEPS, _OPEN_LOOP_STEPS = 10, 4
_CROP = (224, 224)


@dataclass(frozen=True, kw_only=True)
class Station:
    """What the release does not say; None where nobody has said it yet.

    Attributes:
        tokenizer: The folder of the tokenizer (of a Hugging Face model: of the processor) that it
            was trained with, as the hub has it.
        camera_sizes: By camera; under the empty name, of all others.
        resize: What training resized pictures to, where the release has forgotten.
        control_rate_hz: How often the station acts.
    """

    tokenizer: Path | None
    camera_sizes: Mapping[str, ImageSize]
    resize: ImageSize | None
    control_rate_hz: float


def missing_facts(imported: Imported, station: Station) -> list[str]:
    """What must be known before the policy can be served: with the flag or file that says it."""
    found = []
    if station.tokenizer is None:
        found.append("the tokenizer (--tokenizer FOLDER)")
    unsized = [
        name
        for name in _camera_names(_data(imported))
        if name not in station.camera_sizes and "" not in station.camera_sizes
    ]
    if unsized:
        found.append(f"the pictures' sizes of {unsized} (--camera-size [CAMERA=]WIDTHxHEIGHT)")
    if imported.notes.get("normalizer") is None:
        found.append("config_normalizer.yaml in the folder")
    if imported.statistics is None:
        found.append("stats.json in the folder")
    if station.resize is None and _preprocessing(imported).fields.get("resize_images_size") is None:
        found.append("what pictures were resized to (--resize WIDTHxHEIGHT)")
    return found


def checkpoint_of(
    imported: Imported, station: Station, *, name: str, weights_format: WeightsFormat
) -> Checkpoint:
    """Of a policy of which nothing is missing. Raises ImportingError."""
    network = imported.network
    assert isinstance(network, VisionLanguageAction)
    assert station.tokenizer is not None
    assert imported.statistics is not None
    data = _data(imported)
    normalizer = Section(imported.notes["normalizer"], "config_normalizer.yaml")
    vectors = vectors_of(data, normalizer, imported.statistics)
    try:
        tokenizer = TextTokenizer(station.tokenizer)
        shape = _shape(network, data, _preprocessing(imported), station)
        FoundryPrompts(tokenizer, shape)
        _require_no_added_tokens(tokenizer, shape)
        config = FoundryPolicyConfig(
            model=shape,
            name=name,
            chunk_length=vectors.transform.chunk_length,
            weights_format=weights_format,
            serving=ServingConfig(
                num_flow_steps=_NUM_FLOW_STEPS,
                open_loop_steps=min(_OPEN_LOOP_STEPS, vectors.transform.chunk_length),
            ),
        )
        sizes, others = station.camera_sizes, station.camera_sizes.get("")
        contract = Contract(
            cameras={name: sizes.get(name) or _sized(others) for name in shape.cameras},
            arms=vectors.transform.arms,
            grippers=vectors.transform.grippers,
            control_rate_hz=station.control_rate_hz,
            uses_language=True,
        )
    except (ConfigurationError, ContractError, DataError) as error:
        raise ImportingError(str(error)) from error
    return Checkpoint(
        weights=_weights(network, shape, vectors),
        config=config,
        transform=vectors.transform,
        contract=contract,
        tokenizer=tokenizer.content(),
        provenance={
            "imported_from": imported.notes["imported_from"],
            "created": now(),
            "original": {
                key: imported.notes[key] for key in ("data", "normalizer", "preprocessing")
            },
            **describe_code(),
        },
    )


def _shape(
    network: VisionLanguageAction, data: Section, preprocessing: Section, station: Station
) -> FoundryPolicyShape | FoundryHuggingFaceShape:
    config = network.config
    backbone, expert, objective = config.backbone, config.expert, config.objective
    assert isinstance(expert, ObservationTokenConfig)
    assert isinstance(objective, FlowConfig)
    assert station.tokenizer is not None
    pictures = _picture_names(data)
    picture = _picture(data, preprocessing, station)
    common: dict[str, Any] = {
        "expert": expert,
        "pictures": pictures,
        "past_steps": config.space.proprioception_steps - 1,
        "reads_proprioception": config.space.proprioception_size > 0,
        "clamp": objective.clamp,
    }
    if isinstance(backbone, HuggingFaceConfig):
        cut_to = (
            min(picture.crop_width, picture.width),
            min(picture.crop_height, picture.height),
        )
        processed = processed_by(
            backbone, data, station.tokenizer, num_images=len(pictures), cut_to=cut_to
        )
        return FoundryHuggingFaceShape(
            backbone={"model_type": backbone.model_type, "overrides": backbone.overrides},
            normed_outputs=backbone.normed_outputs,
            image_mean=processed.mean,
            image_std=processed.std,
            image_token=image_token_of(backbone.overrides),
            image_word=processed.image_word,
            picture=replace(picture, side=processed.side),
            words_before=processed.before,
            words_after=processed.after,
            **common,
        )
    assert isinstance(backbone.language, LanguageConfig)
    assert isinstance(backbone.vision, VisionTransformerConfig)
    data.require("processor", None, SIMPLE)
    before, after = words_around(station.tokenizer, len(pictures))
    shape = FoundryPolicyShape(
        language=backbone.language,
        vision=backbone.vision,
        image_token=backbone.image_token,
        image_word=IMAGE_WORD,
        picture=picture,
        words_before=before,
        words_after=after,
        **common,
    )
    tokens = data.get("img_num_tokens", 256)
    if tokens != shape.tokens_per_image:
        raise data.unexpected("img_num_tokens", f"{shape.tokens_per_image}, as the ViT has", tokens)
    return shape


def _picture(data: Section, preprocessing: Section, station: Station) -> PictureConfig:
    resized = station.resize
    if resized is None:
        width, height = preprocessing.pair("resize_images_size", None) or (0, 0)
        resized = ImageSize(width=width, height=height)
    crop = data.part("augmentation").part("image").part("crop").pair("shape", _CROP)
    assert crop is not None
    return PictureConfig(
        width=resized.width,
        height=resized.height,
        method=preprocessing.require(
            "image_resizing_method", "center_crop", "center_crop", "resize_no_crop", "resize_fit"
        ),
        crop_width=crop[1],
        crop_height=crop[0],
        side=data.get("image_size", 224),
    )


def _require_no_added_tokens(tokenizer: TextTokenizer, shape: FoundryShape) -> None:
    """That it would put around a text by itself; PaliGemma's processor tells it not to."""
    is_told = isinstance(shape, FoundryHuggingFaceShape) and shape.family == "paligemma"
    if not is_told and (added := tokenizer.added_tokens()):
        raise DataError(
            f"expected a tokenizer that adds no tokens to a text, got one that adds {added}",
            where=tokenizer.path,
        )


def _weights(
    network: VisionLanguageAction,
    shape: FoundryPolicyShape | FoundryHuggingFaceShape,
    vectors: Vectors,
) -> dict[str, Tensor]:
    """Under the policy's names, with actions and states in our order."""
    transform = vectors.transform
    size = transform.num_numbers
    weights = {name: parameter.detach() for name, parameter in network.named_parameters()}
    for name, order, axis in (
        ("from_actions.weight", vectors.action_order, 1),
        ("to_actions.weight", vectors.action_order, 0),
        ("to_actions.bias", vectors.action_order, 0),
        ("from_proprioception.weight", vectors.state_order, 1),
    ):
        if f"expert.{name}" in weights:
            weights[f"expert.{name}"] = _ordered(weights[f"expert.{name}"], order, size, axis=axis)
    weights = {f"model.{name}": tensor for name, tensor in weights.items()}
    with torch.device("meta"):
        served = FoundryPolicy(shape, chunk_length=transform.chunk_length, action_size=size)
    assert {name: tensor.shape for name, tensor in weights.items()} == {
        name: parameter.shape for name, parameter in served.named_parameters()
    }
    return weights


def _ordered(tensor: Tensor, order: npt.NDArray[np.int64], size: int, *, axis: int) -> Tensor:
    """Rows or columns where ours are; those that the original has none for are zero."""
    if tensor.shape[axis] != len(order):
        raise ImportingError(
            f"config.yaml.data: expected fields of {tensor.shape[axis]} numbers, as the model has, "
            f"got {len(order)}"
        )
    shape = list(tensor.shape)
    shape[axis] = size
    return torch.zeros(shape).index_copy(axis, torch.from_numpy(order), tensor)


def _data(imported: Imported) -> Section:
    return Section(imported.notes["data"], "config.yaml.data")


def _preprocessing(imported: Imported) -> Section:
    return Section(imported.notes.get("preprocessing") or {}, "preprocessing_config.yaml")


def _camera_names(data: Section) -> tuple[str, ...]:
    return tuple(dict.fromkeys(name.rpartition("_t")[0] for name in _picture_names(data)))


def _picture_names(data: Section) -> tuple[str, ...]:
    """In the prompt's order: of each step all cameras."""
    names = data.texts("image_names")
    if names:
        return names
    steps = data.fields.get("image_indices") or [-1, 0]
    if not isinstance(steps, list) or not all(type(each) is int for each in steps):
        raise data.unexpected("image_indices", "whole numbers", steps)
    cameras = data.texts("camera_names")
    if not cameras:
        raise data.unexpected("camera_names", "at least one", cameras)
    return tuple(f"{camera}_t{step}" for step in steps for camera in cameras)


def _sized(size: ImageSize | None) -> ImageSize:
    assert size is not None
    return size
