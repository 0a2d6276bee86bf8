"""The tokenizer of a run: the one that was asked for, or one that is trained on its text."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError
from trainer.data.text.source import TextSource
from trainer.data.text.tokenizer import TextTokenizer, train_tokenizer
from trainer.data.text.vocabulary import Vocabulary
from trainer.language_configuration import TextTrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory, RunError


def asked_tokenizer(
    config: TextTrainConfig, run: RunDirectory, tokenizer: TextTokenizer | None = None
) -> TextTokenizer | None:
    """The one of the configuration, or else `tokenizer`, of what the run begins with; if any.

    Raises DataError, ConfigurationError; RunError for another tokenizer than the run's.
    """
    if tokenizer is None and config.tokenizer:
        tokenizer = TextTokenizer(Path(config.tokenizer).expanduser())
    if tokenizer is None:
        return None
    _require_fit(tokenizer, config)
    Vocabulary.of(tokenizer, config.tokens_per_image, config.chat)
    if run.tokenizer.exists():
        stored = TextTokenizer(run.tokenizer)
        if stored.content() != tokenizer.content():
            raise RunError(
                f"{tokenizer.path}: not the tokenizer that the run began with: it has "
                f"{tokenizer.vocabulary_size} tokens, that of {run.tokenizer} has "
                f"{stored.vocabulary_size}; give that one, or choose another --output"
            )
    return tokenizer


def run_tokenizer(
    config: TextTrainConfig,
    run: RunDirectory,
    asked: TextTokenizer | None,
    texts: Callable[[], Iterable[str]],
) -> TextTokenizer:
    """That of the run's folder, written there where it is not yet. Raises DataError,
    ConfigurationError."""
    path = run.tokenizer
    if not path.exists():
        if asked is None:
            return train_tokenizer(texts(), config.language.vocabulary_size, path)
        with atomic_file(path) as file:
            file.write(json.dumps(asked.content(), ensure_ascii=False).encode())
    tokenizer = TextTokenizer(path)
    _require_fit(tokenizer, config)
    return tokenizer


def texts_of(source: TextSource) -> Iterator[str]:
    """Raises DataError for data that are tokens already."""
    for document in source:
        if document.tokens is not None:
            raise DataError(
                "holds tokens and no text: give the tokenizer that made them (--tokenizer)",
                where=document.where,
            )
        if document.text is not None:
            yield document.text
        yield from (turn.text for turn in document.turns)


def _require_fit(tokenizer: TextTokenizer, config: TextTrainConfig) -> None:
    rows = config.language.vocabulary_size
    if tokenizer.vocabulary_size > rows:
        raise ConfigurationError(
            f"{config.language_field}.vocabulary_size: expected at least "
            f"{tokenizer.vocabulary_size}, as many tokens as {tokenizer.path} has, got {rows}"
        )
