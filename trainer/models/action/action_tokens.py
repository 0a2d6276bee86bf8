"""Action chunks as words that a language model predicts: cosine transform, rounding, byte pairs.

After FAST (Pertsch et al. 2025, arXiv:2501.09747): smooth motion is a few low frequencies, so that
most rounded coefficients are nought and byte-pair encoding makes runs of them one token. A chunk
takes tens of tokens in place of one for each number, and neighbours no longer predict each other.

Axes: N chunk, T timestep (then frequency), A numbers an action.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from trainer.models.action.configuration import ActionSpaceConfig
from trainer.requirements import require, require_positive

Integers = NDArray[np.int64]
Floats = NDArray[np.float64]

_END = -1


@dataclass(frozen=True, kw_only=True)
class ActionTokenConfig:
    """How coarsely, and into how many words.

    Attributes:
        scale: Coefficients are multiplied by it before rounding: half its inverse is the greatest
            error of a coefficient.
        max_level: Rounded coefficients are cut to this on either side of nought.
        vocabulary_size: Words: the levels themselves, and pairs of words.
    """

    scale: float = 10.0
    max_level: int = 127
    vocabulary_size: int = 1024

    def __post_init__(self) -> None:
        require_positive(self, "scale", "max_level")
        require(
            self.vocabulary_size >= self.num_levels,
            "vocabulary_size",
            f"at least the {self.num_levels} levels",
            self.vocabulary_size,
        )

    @property
    def num_levels(self) -> int:
        return 2 * self.max_level + 1


class UndecodableTokensError(ValueError):
    """Words that are no whole chunk: a language model may say anything."""


@dataclass(frozen=True, kw_only=True)
class ActionTokenizer:
    """Normalised chunks (T, A) to words and back.

    Attributes:
        config: How coarsely.
        space: What a chunk is.
        merges: Pairs of words, in the order in which they became words.
    """

    config: ActionTokenConfig
    space: ActionSpaceConfig
    merges: tuple[tuple[int, int], ...] = ()

    @cached_property
    def _expansions(self) -> list[Integers]:
        """The levels that each word stands for."""
        expansions = [np.array([level], dtype=np.int64) for level in range(self.config.num_levels)]
        for first, second in self.merges:
            expansions.append(np.concatenate([expansions[first], expansions[second]]))
        return expansions

    @staticmethod
    def fitted(
        config: ActionTokenConfig, space: ActionSpaceConfig, chunks_NTA: Floats
    ) -> ActionTokenizer:
        """With the pairs that are most frequent in these chunks."""
        plain = ActionTokenizer(config=config, space=space)
        sequences = [plain._levels(chunk) for chunk in chunks_NTA]
        # One array with a word between chunks that no pair may hold.
        text = np.concatenate([np.append(sequence, _END) for sequence in sequences])
        merges: list[tuple[int, int]] = []
        for word in range(config.num_levels, config.vocabulary_size):
            pair = _most_frequent_pair(text, word)
            if pair is None:
                break
            merges.append(pair)
            text = _merged(text, pair, word)
        return ActionTokenizer(config=config, space=space, merges=tuple(merges))

    @property
    def vocabulary_size(self) -> int:
        """Words that there are: fewer than asked for where no pair came twice."""
        return self.config.num_levels + len(self.merges)

    def encode(self, chunk_TA: Floats) -> Integers:
        """The words of a chunk."""
        text = self._levels(chunk_TA)
        for word, pair in enumerate(self.merges, start=self.config.num_levels):
            if len(text) > 1:
                text = _merged(text, pair, word)
        return text

    def decode(self, words: Sequence[int] | Integers) -> Floats:
        """The chunk (T, A) of these words; raises UndecodableTokensError where they are none."""
        unknown = [int(word) for word in words if not 0 <= word < self.vocabulary_size]
        if unknown:
            raise UndecodableTokensError(
                f"words {unknown[:3]} are none of the {self.vocabulary_size} of actions"
            )
        size = self.space.chunk_length * self.space.action_size
        levels = np.concatenate([np.empty(0, np.int64), *(self._expansions[w] for w in words)])
        if len(levels) != size:
            raise UndecodableTokensError(
                f"{len(words)} words hold {len(levels)} coefficients; a chunk of "
                f"{self.space.chunk_length} x {self.space.action_size} has {size}"
            )
        coefficients = (levels - self.config.max_level) / self.config.scale
        rows = coefficients.reshape(self.space.chunk_length, self.space.action_size)
        return cosine_matrix(self.space.chunk_length).T @ rows

    def _levels(self, chunk_TA: Floats) -> Integers:
        """Rounded coefficients from 0 on, lowest frequency of every number first."""
        expected = (self.space.chunk_length, self.space.action_size)
        if chunk_TA.shape != expected:
            raise ValueError(f"a chunk has the shape {chunk_TA.shape}, expected {expected}")
        coefficients = cosine_matrix(self.space.chunk_length) @ chunk_TA * self.config.scale
        limit = self.config.max_level
        return np.rint(coefficients).clip(-limit, limit).astype(np.int64).ravel() + limit


def cosine_matrix(length: int) -> Floats:
    """The orthonormal discrete cosine transform (type II): frequencies by timesteps."""
    frequency, timestep = np.arange(length)[:, None], np.arange(length)[None, :]
    matrix = np.sqrt(2 / length) * np.cos(np.pi * frequency * (2 * timestep + 1) / (2 * length))
    matrix[0] /= np.sqrt(2)
    return matrix


def _most_frequent_pair(text: Integers, num_words: int) -> tuple[int, int] | None:
    """Neighbours that come most often, at least twice; the least pair of equals."""
    first, second = text[:-1], text[1:]
    is_pair = (first != _END) & (second != _END)
    keys, counts = np.unique(first[is_pair] * num_words + second[is_pair], return_counts=True)
    if not len(counts) or counts.max() < 2:
        return None
    key = int(keys[counts.argmax()])
    return key // num_words, key % num_words


def _merged(text: Integers, pair: tuple[int, int], word: int) -> Integers:
    """The text with `word` for every such pair, from the left, none overlapping another."""
    is_start = np.zeros(len(text), dtype=bool)
    is_start[:-1] = (text[:-1] == pair[0]) & (text[1:] == pair[1])
    starts = is_start.nonzero()[0]
    if pair[0] == pair[1]:
        # In a run of equal words every second start stands.
        begins_run = np.diff(starts, prepend=-2) > 1
        run_begin = np.maximum.accumulate(np.where(begins_run, starts, 0))
        starts = starts[(starts - run_begin) % 2 == 0]
    merged = text.copy()
    merged[starts] = word
    return np.delete(merged, starts + 1)
