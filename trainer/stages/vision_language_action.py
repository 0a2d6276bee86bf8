"""Policies on a vision-language model, begun at random or from one that was trained."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from pathlib import Path

from policy_interface.types import FloatArray
from trainer.action_token_configuration import ActionTokenShape
from trainer.atomic_file import atomic_file
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.robot_sources import open_robot_data
from trainer.data.text.tokenizer import TextTokenizer, train_tokenizer
from trainer.distributed import current_world
from trainer.initialization import load_part
from trainer.models.action.action_token_file import (
    ActionTokenFileError,
    action_tokenizer_from_json,
    action_tokenizer_to_json,
)
from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.action_token_policy import ActionTokenPolicy
from trainer.models.chunk_policy import ChunkPolicy
from trainer.models.vision_language_policy import VisionLanguagePolicy
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory, RunError
from trainer.stages.beginnings import (
    begins_with_others,
    init_tokenizer,
    plain_weights,
    read_beginning,
)
from trainer.stages.co_training import AlsoOpening, CoTrainedPolicyStage
from trainer.stages.policy import PolicyStage
from trainer.stages.policy_beginnings import kept_scales, policy_beginning
from trainer.vision_language_action_configuration import VisionLanguageActionTrainConfig


def open_vision_language_action_stage(
    config: VisionLanguageActionTrainConfig, run: RunDirectory
) -> Callable[[], PolicyStage]:
    """Raises DataError, ConfigurationError; RunError for another tokenizer than the run's."""
    recordings = read_recordings(open_robot_data(config), config.cameras, uses_language=True)
    # Of a run that has begun the weights are in its state, and the words in its folder.
    has_begun = run.has_state()
    begun = policy_beginning(config, run, recordings.contract)
    beginning = None if has_begun or begun is not None else read_beginning(config)
    asked = None
    if not (has_begun and begins_with_others(config)):
        asked = init_tokenizer(config)
    if asked is not None:
        _require_fit(asked, config)
    pretrained = not has_begun and beginning is None and begun is None
    if run.tokenizer.exists() and asked is not None:
        _require_the_runs(asked, run)
    openings = [AlsoOpening.of(source, config, run, asked) for source in config.also.sources]

    def begin(network: ChunkPolicy) -> None:
        assert isinstance(network, VisionLanguagePolicy | ActionTokenPolicy)
        if begun is not None:
            begun.give_weights(network)
        if beginning is not None:
            load_part(
                network.model.backbone,
                plain_weights(beginning),
                source=config.init,
                exceptions=config.init_except,
            )

    def make() -> PolicyStage:
        if not has_begun and current_world().is_first:
            _forget_words(run)
        transform = kept_scales(begun, run)
        tokenizer = _tokenizer(config, run, recordings, asked, openings)
        if openings:
            return CoTrainedPolicyStage(
                config,
                recordings,
                tokenizer,
                openings,
                begin=begin,
                transform=transform,
                pretrained=pretrained,
            )
        words = None
        if isinstance(config.model, ActionTokenShape):
            words = partial(_action_words, config.model.tokens, run.action_tokenizer)
        return PolicyStage(
            config,
            recordings,
            tokenizer,
            begin=begin,
            transform=transform,
            pretrained=pretrained,
            action_words=words,
        )

    return make


def _forget_words(run: RunDirectory) -> None:
    """Of a run in this folder that was killed before it had saved anything: they may be of other
    data, or of what that run began with. New ones take seconds."""
    run.tokenizer.unlink(missing_ok=True)
    run.action_tokenizer.unlink(missing_ok=True)


def _tokenizer(
    config: VisionLanguageActionTrainConfig,
    run: RunDirectory,
    recordings: RobotRecordings,
    asked: TextTokenizer | None,
    openings: Sequence[AlsoOpening],
) -> TextTokenizer:
    """The run's own: that which was asked for, or one of the words of the instructions, and of what
    else is learnt."""
    path = run.tokenizer
    if not path.exists():
        if asked is None:
            told = sorted({each for phrasings in recordings.instructions for each in phrasings})
            texts = chain(told, *(opening.texts() for opening in openings))
            train_tokenizer(texts, config.model.vocabulary_size, path)
        else:
            with atomic_file(path) as file:
                file.write(json.dumps(asked.content(), ensure_ascii=False).encode())
    tokenizer = TextTokenizer(path)
    _require_fit(tokenizer, config)
    return tokenizer


def _action_words(config: ActionTokenConfig, path: Path, chunks_NTA: FloatArray) -> ActionTokenizer:
    """The run's own, fitted when it began: on another machine a sum may be rounded otherwise, and
    the words would be others.

    Raises RunError where its file is damaged, or is of other chunks.
    """
    space = ActionSpaceConfig(chunk_length=chunks_NTA.shape[1], action_size=chunks_NTA.shape[2])
    if not path.exists():
        fitted = ActionTokenizer.fitted(config, space, chunks_NTA)
        with atomic_file(path) as file:
            file.write(action_tokenizer_to_json(fitted).encode())
    try:
        tokenizer = action_tokenizer_from_json(path.read_text())
    except (ActionTokenFileError, UnicodeDecodeError) as error:
        raise RunError(f"{path}: {error}; choose another --output") from error
    if (tokenizer.config, tokenizer.space) != (config, space):
        raise RunError(f"{path}: not of this run's chunks; choose another --output")
    return tokenizer


def _require_fit(tokenizer: TextTokenizer, config: VisionLanguageActionTrainConfig) -> None:
    size = config.model.vocabulary_size
    if tokenizer.vocabulary_size > size:
        raise ConfigurationError(
            f"model.language.vocabulary_size: expected at least the {tokenizer.vocabulary_size} "
            f"tokens of {tokenizer.path}, got {size}"
        )


def _require_the_runs(asked: TextTokenizer, run: RunDirectory) -> None:
    stored = TextTokenizer(run.tokenizer)
    if stored.content() != asked.content():
        raise RunError(
            f"{asked.path}: not the tokenizer that the run began with: it has "
            f"{asked.vocabulary_size} tokens, that of {run.tokenizer} has "
            f"{stored.vocabulary_size}; give that one, or choose another --output"
        )
