"""The checkpoint that a run begins with: its shape, its words, its weights."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TypeVar

from trainer.checkpoint_files import CheckpointError, checkpoint_kind
from trainer.configuration import ConfigurationError
from trainer.configuration_json import config_from_json
from trainer.language_checkpoint import LanguageCheckpoint, read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.run_configuration import RunConfig
from trainer.run_directory import RunDirectory
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig
from trainer.vision_language_checkpoint import (
    VisionLanguageCheckpoint,
    read_vision_language_checkpoint,
)
from trainer.vision_language_configuration import VisionLanguageTrainConfig

_Config = TypeVar("_Config", bound=RunConfig)

Beginning = LanguageCheckpoint[LanguageTrainConfig] | VisionLanguageCheckpoint


def read_beginning(config: RunConfig) -> Beginning | None:
    """What the configuration's `init` names, if anything.

    Raises CheckpointError for anything but the stage before, or the same one where that can be.
    """
    if isinstance(config, VisionLanguageActionTrainConfig) and config.init:
        return read_vision_language_checkpoint(init_path(config))
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
            return read_language_checkpoint(path)
        return read_vision_language_checkpoint(path)
    return None


def init_path(config: VisionLanguageTrainConfig | VisionLanguageActionTrainConfig) -> Path:
    return Path(config.init).expanduser()


def init_tokenizer(
    config: VisionLanguageTrainConfig | VisionLanguageActionTrainConfig,
) -> Path | None:
    """The file of the words that the run begins with, or of those that were asked for."""
    if not config.init:
        return Path(config.tokenizer).expanduser() if config.tokenizer else None
    if config.tokenizer:
        raise ConfigurationError(
            f"tokenizer: expected none beside init, whose words are those of its checkpoint, got "
            f"{config.tokenizer!r}"
        )
    return init_path(config) / "tokenizer.json"


def shaped_like_its_beginning(config: _Config, run: RunDirectory | None) -> _Config:
    """With the shape of what it begins with, or, of a run that has begun, of the run itself.

    Raises CheckpointError, ConfigurationError.
    """
    if not isinstance(config, (VisionLanguageTrainConfig, VisionLanguageActionTrainConfig)):
        return config
    if not config.init:
        return config
    if run is not None and run.has_state():
        stored = config_from_json(run.config_path.read_text())
        if not isinstance(stored, type(config)):
            return config
        language, vision = stored.model.language, stored.model.vision
    else:
        beginning = read_beginning(config)
        assert beginning is not None
        vision = config.model.vision
        if isinstance(beginning.config, LanguageTrainConfig):
            language = beginning.config.model
        else:
            language, vision = beginning.config.model.language, beginning.config.model.vision
    return replace(config, model=replace(config.model, language=language, vision=vision))
