"""What a run begins with: another run's checkpoint, or a folder of Hugging Face's; its shape, its
words, its weights."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from torch import Tensor

from trainer.checkpoint_files import CheckpointError, checkpoint_kind
from trainer.configuration_json import config_from_json, leaves
from trainer.data.text.tokenizer import TextTokenizer
from trainer.hugging_face_configuration import (
    AnyLanguage,
    AnyVision,
    HuggingFaceLanguage,
    HuggingFaceVision,
    HuggingFaceVisionLanguage,
)
from trainer.hugging_face_folder import (
    folder_tokenizer,
    read_language_folder,
    read_vision_language_folder,
)
from trainer.hugging_face_vision_folder import read_vision_folder
from trainer.language_checkpoint import LanguageCheckpoint, read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.models.adaptation import with_updates_added
from trainer.policy_configuration import PolicyConfig
from trainer.requirements import ConfigurationError
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.stages.policy_beginnings import modulated_as, shaped_like_a_policy
from trainer.vision_language_action_configuration import (
    HuggingFaceActionShape,
    VisionLanguageActionTrainConfig,
)
from trainer.vision_language_checkpoint import (
    VisionLanguageCheckpoint,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import (
    HuggingFaceAnswererShape,
    VisionLanguageShape,
    VisionLanguageTrainConfig,
)

_Config = TypeVar("_Config", bound=RunConfig)

Beginning = LanguageCheckpoint[LanguageTrainConfig] | VisionLanguageCheckpoint
_Seeing = VisionLanguageTrainConfig | VisionLanguageActionTrainConfig


def read_beginning(config: RunConfig) -> Beginning | None:
    """What the configuration's `init` names, if anything.

    Of a policy that begins with a policy, see `policy_beginnings`. Raises CheckpointError for
    anything but the stage before, or the same one where that can be.
    """
    if isinstance(config, VisionLanguageActionTrainConfig) and config.init:
        seeing = read_vision_language_checkpoint(init_path(config))
        return _of_the_same_making(seeing, config)
    if isinstance(config, VisionLanguageTrainConfig) and config.init:
        path = init_path(config)
        kinds = (LanguageTrainConfig.kind, VisionLanguageTrainConfig.kind)
        kind = checkpoint_kind(path)
        if kind not in kinds:
            raise CheckpointError(
                f"{path}: expected a language model or a vision-language model to begin with, got "
                f"a checkpoint of kind {kind!r}"
            )
        if kind == LanguageTrainConfig.kind:
            return _of_the_same_making(read_language_checkpoint(path), config)
        return _of_the_same_making(read_vision_language_checkpoint(path), config)
    return None


def _of_the_same_making(beginning: Beginning, config: _Seeing) -> Beginning:
    """Raises CheckpointError for one of ours where the run is on a vision-language model of Hugging
    Face's, and the other way round."""
    expected = isinstance(config.model, (HuggingFaceActionShape, HuggingFaceAnswererShape))
    got = _seeing_of_hugging_face(beginning) is not None
    if expected != got:
        whose = {True: "on one of Hugging Face's", False: "of our own making"}
        raise CheckpointError(
            f"{init_path(config)}: expected a vision-language model {whose[expected]}, as the "
            f"recipe's is, got one {whose[got]}"
        )
    return beginning


def _seeing_of_hugging_face(beginning: Beginning) -> HuggingFaceVisionLanguage | None:
    model = beginning.config.model
    return model.backbone if isinstance(model, HuggingFaceAnswererShape) else None


def init_path(config: _Seeing) -> Path:
    return Path(config.init).expanduser()


def plain_weights(beginning: Beginning) -> Mapping[str, Tensor]:
    """Its weights, with low-rank updates added to the matrices that they are of."""
    others = _seeing_of_hugging_face(beginning)
    if others is not None:
        return with_updates_added(beginning.weights, others.adaptation)
    weights, model = dict(beginning.weights), beginning.config.model
    if isinstance(model, VisionLanguageShape):
        for name, part in (("language.", model.language), ("vision.", model.vision)):
            if isinstance(part, (HuggingFaceLanguage, HuggingFaceVision)):
                own = {each: weights.pop(each) for each in list(weights) if each.startswith(name)}
                weights |= with_updates_added(own, part.adaptation)
    return weights


def begins_with_others(config: _Seeing) -> bool:
    """Whether its words are those of what it begins with."""
    return bool(config.init) or _of_hugging_face(config) is not None


def init_tokenizer(config: _Seeing) -> TextTokenizer | None:
    """The words that the run begins with, or those that were asked for."""
    model = _of_hugging_face(config)
    if not (config.init or model):
        return TextTokenizer(Path(config.tokenizer).expanduser()) if config.tokenizer else None
    if config.tokenizer:
        whose = "init, whose words are those of its checkpoint"
        if not config.init:
            whose = "a model of Hugging Face's, whose words are those of its folder"
        raise ConfigurationError(
            f"tokenizer: expected none beside {whose}, got {config.tokenizer!r}"
        )
    if config.init:
        return TextTokenizer(init_path(config) / "tokenizer.json")
    assert model is not None
    return folder_tokenizer(model)


def _of_hugging_face(config: _Seeing) -> HuggingFaceLanguage | HuggingFaceVisionLanguage | None:
    model = config.model
    if isinstance(model, (HuggingFaceActionShape, HuggingFaceAnswererShape)):
        return model.backbone
    return model.language if isinstance(model.language, HuggingFaceLanguage) else None


def shaped_like_its_beginning(
    config: _Config, run: RunDirectory | None, asked: Collection[str] = ()
) -> _Config:
    """With the shape of what it begins with, or, of a run that has begun, of the run itself.

    asked: names of fields that were asked for, which no beginning may replace by others.

    Raises CheckpointError, ConfigurationError, DataError.
    """
    if isinstance(config, PolicyConfig):
        as_a_policy = shaped_like_a_policy(config, run, asked)
        if as_a_policy is not None:
            _require_agreement(config, as_a_policy, asked, run)
            return as_a_policy
    if not isinstance(config, (VisionLanguageTrainConfig, VisionLanguageActionTrainConfig)):
        return config
    model = config.model
    if run is not None and run.has_state():
        stored = config_from_json(run.config_path.read_text())
        if not isinstance(stored, type(config)):
            return config
        own = stored.model
        if isinstance(model, (HuggingFaceActionShape, HuggingFaceAnswererShape)):
            if not isinstance(own, type(model)):
                return config
            kept = _as_it_was_read(model.backbone, own.backbone)
            if config.init:
                kept = replace(own.backbone, adaptation=model.backbone.adaptation)
            shaped = replace(config, model=replace(model, backbone=kept))
            _require_agreement(config, shaped, asked, run)
            return shaped
        if isinstance(own, (HuggingFaceActionShape, HuggingFaceAnswererShape)):
            return config
        if not config.init:
            language = _as_it_was_read(model.language, own.language)
            vision = _as_it_was_read(model.vision, own.vision)
        else:
            language = _adapted_as(own.language, model.language)
            vision = _seeing_adapted_as(own.vision, model.vision)
        shaped = replace(config, model=replace(model, language=language, vision=vision))
        _require_agreement(config, shaped, asked, run)
        return shaped
    if isinstance(model, (HuggingFaceActionShape, HuggingFaceAnswererShape)):
        backbone = model.backbone
        if config.init:
            beginning = read_beginning(config)
            assert beginning is not None
            begun = _seeing_of_hugging_face(beginning)
            assert begun is not None
            backbone = replace(begun, adaptation=backbone.adaptation)
        elif backbone.path:
            answers = isinstance(model, HuggingFaceAnswererShape)
            backbone = read_vision_language_folder(backbone, answers=answers)
            _require_same_folder(model.backbone, backbone)
        shaped = replace(config, model=replace(model, backbone=backbone))
        if config.init:
            _require_agreement(config, shaped, asked, run)
        return shaped
    if not config.init:
        language = model.language
        if isinstance(language, HuggingFaceLanguage) and language.path:
            language = read_language_folder(language)
            _require_same_folder(model.language, language)
        vision = _as_its_folder_says(model.vision)
        return replace(config, model=replace(model, language=language, vision=vision))
    beginning = read_beginning(config)
    assert beginning is not None
    if isinstance(beginning.config, VisionLanguageTrainConfig):
        own = beginning.config.model
        assert isinstance(own, VisionLanguageShape)
        vision, spoken = _seeing_adapted_as(own.vision, model.vision), own.language
    else:
        vision, spoken = _as_its_folder_says(model.vision), beginning.config.language
    language = _adapted_as(spoken, model.language)
    shaped = replace(config, model=replace(model, language=language, vision=vision))
    _require_agreement(config, shaped, asked, run)
    return shaped


def _as_its_folder_says(vision: AnyVision) -> AnyVision:
    """Of a tower of Hugging Face's."""
    if not (isinstance(vision, HuggingFaceVision) and vision.path):
        return vision
    read = read_vision_folder(vision)
    _require_same_folder(vision, read)
    return read


def _require_same_folder(asked: Any, read: Any) -> None:
    """Of a configuration that a run has left: the folder may be another by now."""
    if asked.shape and asked.shape != read.shape:
        raise ConfigurationError(
            f"shape: expected that of the configuration, got another in {read.path}; leave the "
            "shape out of the configuration"
        )


def _as_it_was_read(model: Any, stored: Any) -> Any:
    """With what its folder said when the run began; the folder may be gone."""
    if not isinstance(model, (HuggingFaceLanguage, HuggingFaceVision, HuggingFaceVisionLanguage)):
        return model
    if type(stored) is not type(model) or model.shape:
        return model
    read = ("chat", "shape", "image_mean", "image_std")
    return replace(model, **{name: getattr(stored, name) for name in read if hasattr(stored, name)})


def _adapted_as(language: AnyLanguage, asked: AnyLanguage) -> AnyLanguage:
    """A beginning's, trained as far as this run asks, where it asks for such a model at all."""
    if isinstance(language, HuggingFaceLanguage) and isinstance(asked, HuggingFaceLanguage):
        return replace(language, adaptation=asked.adaptation, context_length=asked.context_length)
    return language


def _seeing_adapted_as(vision: AnyVision, asked: AnyVision) -> AnyVision:
    """See `_adapted_as`; of a tower of ours, modulated as this run asks."""
    if isinstance(vision, HuggingFaceVision) and isinstance(asked, HuggingFaceVision):
        return replace(vision, adaptation=asked.adaptation)
    return modulated_as(vision, asked)


def differing_fields(config: RunConfig, shaped: RunConfig) -> list[str]:
    """`field value instead of the recipe's`, of what a beginning has replaced; of whole parts of
    another kind their names. What the recipe leaves empty is for a folder to say."""
    before, after = (leaves(dataclasses.asdict(each)) for each in (config, shaped))
    told = [name for name, value in before.items() if value not in ("", (), {})]
    return [
        f"{name} {after[name]!r} instead of {before[name]!r}"
        for name in told
        if name in after and before[name] != after[name]
    ] + [f"{name} (left out)" for name in told if name not in after]


def _require_agreement(
    config: RunConfig, shaped: RunConfig, asked: Collection[str], run: RunDirectory | None
) -> None:
    """Raises ConfigurationError for a field that was asked for, and that a beginning replaced, or
    the run where it has begun."""
    owner, instead = getattr(config, "init", ""), "begin with another checkpoint"
    if run is not None and run.has_state():
        owner, instead = "the run", "choose another --output"
    before, after = (leaves(dataclasses.asdict(each)) for each in (config, shaped))
    for name in before:
        if name in asked and before[name] != after.get(name):
            raise ConfigurationError(
                f"{name}: expected {after.get(name)!r}, as {owner} has it, got "
                f"{before[name]!r}; leave it out, or {instead}"
            )
