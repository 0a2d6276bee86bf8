"""What a policy of VLA Foundry is told, in tokens: its prompt's words around the instruction.

Every prompt has the same length, padded in front. An instruction never becomes a special token,
whatever it says; else its tokens are those of the whole prompt's text.

Axes: S token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.text.tokenizer import TextTokenizer
from trainer.foundry.configuration import FoundryShape
from trainer.models.chunk_policy import NO_TOKEN


class FoundryPrompts:
    def __init__(self, tokenizer: TextTokenizer, shape: FoundryShape) -> None:
        """Raises DataError for a tokenizer that is not the model's."""
        word, place = shape.image_word, shape.image_token
        found = tokenizer.special(word)
        if found != place:
            raise DataError(
                f"expected {word} to be token {place}, as the model has it, got {found}",
                where=tokenizer.path,
            )
        most = shape.vocabulary_size
        if tokenizer.vocabulary_size > most:
            raise DataError(
                f"expected at most {most} tokens, as the model has, "
                f"got {tokenizer.vocabulary_size}",
                where=tokenizer.path,
            )
        expanded = shape.words_before.replace(word, word * shape.tokens_per_image)
        # Special tokens part a text: what stands between two of them is cut into tokens by itself.
        before = tokenizer.encode_template(expanded)
        after = tokenizer.encode_template(shape.words_after)
        end = max((i for i, each in enumerate(before) if each.is_special), default=-1) + 1
        begin = next((i for i, each in enumerate(after) if each.is_special), len(after))
        self._head = [each.number for each in before[:end]]
        self._tail = [each.number for each in after[begin:]]
        self._before = expanded[before[end - 1].stop if end else 0 :]
        self._after = shape.words_after[: after[begin].start if begin < len(after) else None]
        images = self._head.count(place)
        expected = len(shape.pictures) * shape.tokens_per_image
        if images != expected:
            raise DataError(
                f"words_before: expected {len(shape.pictures)} times {word}, of "
                f"{shape.tokens_per_image} tokens each, got {images} such tokens"
            )
        self._tokenizer, self._most_words = tokenizer, shape.instruction_tokens
        self.length = len(self._tokens("")) + shape.instruction_tokens

    def encode(self, instruction: str) -> npt.NDArray[np.int64]:
        """(S,). Raises DataError for an instruction that is too long."""
        tokens = self._tokens(instruction)
        if len(tokens) > self.length:
            words = len(tokens) - self.length + self._most_words
            raise DataError(
                f"instruction {instruction!r:.80}: expected at most {self._most_words} tokens, "
                f"got {words}"
            )
        prompt = np.full(self.length, NO_TOKEN, np.int64)
        prompt[self.length - len(tokens) :] = tokens
        return prompt

    def _tokens(self, instruction: str) -> list[int]:
        words = self._tokenizer.encode(self._before + instruction + self._after)
        return [*self._head, *words, *self._tail]
