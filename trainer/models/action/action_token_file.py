"""An action tokenizer as JSON, so that a checkpoint says in plain numbers what its words mean."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action.configuration import ActionSpaceConfig
from trainer.requirements import ConfigurationError

ACTION_TOKENIZER_FORMAT = "assay.action_tokenizer/1"

_FIELDS = (
    "format",
    "scale",
    "max_level",
    "vocabulary_size",
    "action_size",
    "chunk_length",
    "longest",
    "merges",
)
_MOST = 2**31


class ActionTokenFileError(ValueError):
    """Content that is no action tokenizer's; the message names the field."""


def action_tokenizer_to_json(tokenizer: ActionTokenizer) -> str:
    content = {
        "format": ACTION_TOKENIZER_FORMAT,
        **asdict(tokenizer.config),
        "action_size": tokenizer.space.action_size,
        "chunk_length": tokenizer.space.chunk_length,
        "longest": tokenizer.longest,
        "merges": tokenizer.merges,
    }
    return json.dumps(content) + "\n"


def action_tokenizer_from_json(text: str) -> ActionTokenizer:
    """Raises ActionTokenFileError for anything else, before a claimed size takes any memory."""
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ActionTokenFileError(f"not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ActionTokenFileError(f"expected an object, got {content!r:.80}")
    if content.keys() != set(_FIELDS):
        raise ActionTokenFileError(f"expected the fields {list(_FIELDS)}, got {list(content)}")
    if content["format"] != ACTION_TOKENIZER_FORMAT:
        raise _refusal("format", repr(ACTION_TOKENIZER_FORMAT), content["format"])
    try:
        config = ActionTokenConfig(
            scale=_scale(content),
            max_level=_whole(content, "max_level"),
            vocabulary_size=_whole(content, "vocabulary_size"),
        )
    except ConfigurationError as error:
        raise ActionTokenFileError(str(error)) from error
    space = ActionSpaceConfig(
        action_size=_whole(content, "action_size"), chunk_length=_whole(content, "chunk_length")
    )
    num_coefficients = space.action_size * space.chunk_length
    return ActionTokenizer(
        config=config,
        space=space,
        longest=_whole(content, "longest", most=num_coefficients),
        merges=_merges(content["merges"], config, num_coefficients),
    )


def _merges(
    pairs: Any, config: ActionTokenConfig, num_coefficients: int
) -> tuple[tuple[int, int], ...]:
    most = config.vocabulary_size - config.num_levels
    if not isinstance(pairs, list) or len(pairs) > most:
        got = f"{len(pairs)} of them" if isinstance(pairs, list) else pairs
        raise _refusal("merges", f"a list of at most {most} pairs of words", got)
    merges: list[tuple[int, int]] = []
    # Coefficients that each stands for. Each may double those of an earlier one.
    lengths: list[int] = []
    for place, pair in enumerate(pairs):
        word = config.num_levels + place
        name = f"merges[{place}]"
        if not (
            isinstance(pair, list)
            and len(pair) == 2
            and all(type(each) is int and 0 <= each < word for each in pair)
        ):
            raise _refusal(name, f"two words from 0 to {word - 1}", pair)
        parts = [lengths[n - config.num_levels] if n >= config.num_levels else 1 for n in pair]
        if sum(parts) > num_coefficients:
            raise _refusal(name, f"at most a chunk's {num_coefficients} coefficients", sum(parts))
        merges.append((pair[0], pair[1]))
        lengths.append(sum(parts))
    return tuple(merges)


def _scale(content: Mapping[str, Any]) -> float:
    value = content["scale"]
    if type(value) not in (int, float) or not (value > 0 and math.isfinite(value)):
        raise _refusal("scale", "a positive number", value)
    return float(value)


def _whole(content: Mapping[str, Any], name: str, *, most: int = _MOST) -> int:
    value = content[name]
    if type(value) is not int or not 1 <= value <= most:
        raise _refusal(name, f"a whole number from 1 to {most}", value)
    return value


def _refusal(name: str, expected: str, got: object) -> ActionTokenFileError:
    return ActionTokenFileError(f"{name}: expected {expected}, got {got!r:.80}")
