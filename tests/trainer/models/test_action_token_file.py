"""An action tokenizer through JSON, and what is no such file."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainer.models.action.action_token_file import (
    ActionTokenFileError,
    action_tokenizer_from_json,
    action_tokenizer_to_json,
)
from trainer.models.action.action_tokens import ActionTokenConfig, ActionTokenizer
from trainer.models.action.configuration import ActionSpaceConfig

SPACE = ActionSpaceConfig(action_size=3, chunk_length=8)
CONFIG = ActionTokenConfig(scale=8, max_level=20, vocabulary_size=90)


def chunks(count: int, seed: int, spread: float = 0.2) -> np.ndarray:
    steps = np.random.default_rng(seed).normal(0, spread, (count, 8, 3))
    return steps.cumsum(axis=1)


@pytest.fixture(scope="module")
def tokenizer() -> ActionTokenizer:
    return ActionTokenizer.fitted(CONFIG, SPACE, chunks(200, seed=0))


def test_the_file_gives_the_same_words(tokenizer: ActionTokenizer) -> None:
    again = action_tokenizer_from_json(action_tokenizer_to_json(tokenizer))
    assert again == tokenizer
    assert again.longest == max(len(words) for words in tokenizer.encode_all(chunks(200, seed=0)))


def test_many_chunks_at_once_have_the_words_that_each_has(tokenizer: ActionTokenizer) -> None:
    some = chunks(5, seed=1)
    together = tokenizer.encode_all(some)
    for chunk, words in zip(some, together, strict=True):
        np.testing.assert_array_equal(tokenizer.encode(chunk), words)


@given(words=st.lists(st.integers(0, 89), max_size=40))
@settings(max_examples=50, deadline=None)
def test_any_words_are_a_chunk_when_cut_or_filled(
    tokenizer: ActionTokenizer, words: list[int]
) -> None:
    words = [word for word in words if word < tokenizer.vocabulary_size]
    chunk, is_whole = tokenizer.decode_anyhow(words)
    assert chunk.shape == (8, 3)
    assert np.isfinite(chunk).all()
    if is_whole:
        np.testing.assert_array_equal(chunk, tokenizer.decode(words))


def test_missing_coefficients_are_nought_and_those_too_many_are_left_out(
    tokenizer: ActionTokenizer,
) -> None:
    # Single levels, of which 20 is nought: of every number the mean over time.
    means = [28, 20, 12]
    constant, is_whole = tokenizer.decode_anyhow(means)
    assert not is_whole
    np.testing.assert_allclose(constant, np.tile([1, 0, -1], (8, 1)) / np.sqrt(8), atol=1e-12)
    full, is_whole = tokenizer.decode_anyhow([*means, *[20] * 21])
    assert is_whole
    over, is_whole = tokenizer.decode_anyhow([*means, *[20] * 21, 40, 40])
    assert not is_whole
    np.testing.assert_array_equal(full, over)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"format": "assay.action_tokenizer/9"}, "format: expected"),
        ({"merges": None}, "merges: expected a list"),
        ({"extra": 1}, "expected the fields"),
        ({"scale": 0}, "scale: expected a positive number"),
        ({"scale": float("inf")}, "scale: expected a positive number"),
        ({"scale": True}, "scale: expected a positive number"),
        ({"max_level": 2**40}, "max_level: expected a whole number from 1"),
        ({"vocabulary_size": 40}, "vocabulary_size: expected at least the 41 levels"),
        ({"chunk_length": 8.0}, "chunk_length: expected a whole number"),
        ({"longest": 25}, "longest: expected a whole number from 1 to 24"),
        ({"merges": [[0, 41]]}, r"merges\[0\]: expected two words from 0 to 40"),
        ({"merges": [[0, 1, 2]]}, r"merges\[0\]: expected two words"),
        ({"merges": [[0, -1]]}, r"merges\[0\]: expected two words"),
        ({"merges": [[0, 1]] * 50}, "merges: expected a list of at most 49 pairs"),
        # Each twice as long as the one before: forty of them would fill any memory.
        (
            {"merges": [[20, 20], *([word, word] for word in range(41, 80))]},
            r"merges\[4\]: expected at most a chunk's 24 coefficients, got 32",
        ),
    ],
)
def test_a_hostile_file_is_refused_by_its_field(
    tokenizer: ActionTokenizer, change: dict[str, Any], said: str
) -> None:
    content = json.loads(action_tokenizer_to_json(tokenizer)) | change
    with pytest.raises(ActionTokenFileError, match=f"^{said}"):
        action_tokenizer_from_json(json.dumps(content))


@pytest.mark.parametrize("text", ["", "[" * 100_000, "[1]", "null"])
def test_what_is_no_object_is_refused(text: str) -> None:
    with pytest.raises(ActionTokenFileError, match="not JSON|expected an object"):
        action_tokenizer_from_json(text)
