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
        longest: Words of the longest chunk that it was fitted to; None where it was fitted to none.
    """

    config: ActionTokenConfig
    space: ActionSpaceConfig
    merges: tuple[tuple[int, int], ...] = ()
    longest: int | None = None

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
        text = ActionTokenizer(config=config, space=space)._text(chunks_NTA)
        merges: list[tuple[int, int]] = []
        for word in range(config.num_levels, config.vocabulary_size):
            pair = _most_frequent_pair(text, word)
            if pair is None:
                break
            merges.append(pair)
            text = _merged(text, pair, word)
        return ActionTokenizer(
            config=config,
            space=space,
            merges=tuple(merges),
            longest=max(map(len, _split(text))),
        )

    @property
    def vocabulary_size(self) -> int:
        """Words that there are: fewer than asked for where no pair came twice."""
        return self.config.num_levels + len(self.merges)

    @property
    def num_coefficients(self) -> int:
        """Of a chunk."""
        return self.space.chunk_length * self.space.action_size

    @property
    def most_words(self) -> int:
        """That a chunk is told in at most: half as many again as the longest one known."""
        if self.longest is None:
            return self.num_coefficients
        return min(self.num_coefficients, self.longest + self.longest // 2)

    def encode(self, chunk_TA: Floats) -> Integers:
        """The words of a chunk."""
        return self.encode_all(chunk_TA[None])[0]

    def encode_all(self, chunks_NTA: Floats) -> list[Integers]:
        """The words of each chunk: of many at once nearly as quick as of one."""
        text = self._text(chunks_NTA)
        for word, pair in enumerate(self.merges, start=self.config.num_levels):
            text = _merged(text, pair, word)
        return _split(text)

    def decode(self, words: Sequence[int] | Integers) -> Floats:
        """The chunk (T, A) of these words; raises UndecodableTokensError where they are none."""
        unknown = [int(word) for word in words if not 0 <= word < self.vocabulary_size]
        if unknown:
            raise UndecodableTokensError(
                f"words {unknown[:3]} are none of the {self.vocabulary_size} of actions"
            )
        levels = self._levels_of(words)
        if len(levels) != self.num_coefficients:
            raise UndecodableTokensError(
                f"{len(words)} words hold {len(levels)} coefficients; a chunk of "
                f"{self.space.chunk_length} x {self.space.action_size} has {self.num_coefficients}"
            )
        return self._chunk(levels)

    def decode_anyhow(self, words: Sequence[int] | Integers) -> tuple[Floats, bool]:
        """The chunk (T, A) of any of these words, and whether they are exactly one.

        Coefficients beyond the last one are left out. Those that are missing, which are the highest
        frequencies, are nought: a chunk of few words moves smoothly.
        """
        levels = self._levels_of(words)
        filled = np.full(self.num_coefficients, self.config.max_level, dtype=np.int64)
        kept = levels[: len(filled)]
        filled[: len(kept)] = kept
        return self._chunk(filled), len(levels) == len(filled)

    def _levels_of(self, words: Sequence[int] | Integers) -> Integers:
        return np.concatenate([np.empty(0, np.int64), *(self._expansions[w] for w in words)])

    def _chunk(self, levels: Integers) -> Floats:
        coefficients = (levels - self.config.max_level) / self.config.scale
        rows = coefficients.reshape(self.space.chunk_length, self.space.action_size)
        return cosine_matrix(self.space.chunk_length).T @ rows

    def _text(self, chunks_NTA: Floats) -> Integers:
        """Rounded coefficients from 0 on, lowest frequency of every number first, and behind each
        chunk a word that no pair may hold."""
        expected = (self.space.chunk_length, self.space.action_size)
        if chunks_NTA.shape[1:] != expected:
            raise ValueError(f"a chunk has the shape {chunks_NTA.shape[1:]}, expected {expected}")
        coefficients = cosine_matrix(self.space.chunk_length) @ chunks_NTA * self.config.scale
        limit = self.config.max_level
        levels = np.rint(coefficients).clip(-limit, limit).astype(np.int64) + limit
        rows = levels.reshape(len(levels), self.num_coefficients)
        return np.pad(rows, ((0, 0), (0, 1)), constant_values=_END).ravel()


def cosine_matrix(length: int) -> Floats:
    """The orthonormal discrete cosine transform (type II): frequencies by timesteps."""
    frequency, timestep = np.arange(length)[:, None], np.arange(length)[None, :]
    matrix = np.sqrt(2 / length) * np.cos(np.pi * frequency * (2 * timestep + 1) / (2 * length))
    matrix[0] /= np.sqrt(2)
    return matrix


def _split(text: Integers) -> list[Integers]:
    """The words of each chunk."""
    ends = (text == _END).nonzero()[0]
    starts = np.concatenate([[0], ends[:-1] + 1])
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


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
    if not len(starts):
        return text
    if pair[0] == pair[1]:
        # In a run of equal words every second start stands.
        begins_run = np.diff(starts, prepend=-2) > 1
        run_begin = np.maximum.accumulate(np.where(begins_run, starts, 0))
        starts = starts[(starts - run_begin) % 2 == 0]
    merged = text.copy()
    merged[starts] = word
    return np.delete(merged, starts + 1)
