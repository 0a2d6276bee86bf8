"""What a policy is told, in tokens: its cameras' pictures, then the instruction.

Every prompt of a policy has the same length, padded in front, so that prompts of different words
stand in one batch.

Axes: S token.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.text.chat import ChatTemplate, Template
from trainer.data.text.chat_format import ChatFormat, FormattedTemplate
from trainer.data.text.documents import Turn
from trainer.data.text.tokenizer import TextTokenizer
from trainer.models.chunk_policy import NO_TOKEN


class Prompts:
    """num_images: one a camera. most_words: tokens of the longest instruction. chat: how they are
    written for a model of others; None for our own way."""

    def __init__(
        self,
        tokenizer: TextTokenizer,
        *,
        num_images: int,
        tokens_per_image: int,
        most_words: int,
        chat: ChatFormat | None = None,
    ) -> None:
        """Raises DataError for a tokenizer without our special tokens, or those of the format."""
        self.tokenizer = tokenizer
        self._template: Template = (
            ChatTemplate(tokenizer, tokens_per_image)
            if chat is None
            else FormattedTemplate(tokenizer, chat, tokens_per_image)
        )
        self._num_images, self._most_words = num_images, most_words
        self.length = len(self._tokens("")) + most_words

    @property
    def image_token(self) -> int:
        assert self._template.image_token is not None
        return self._template.image_token

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
        turn = Turn(role="user", text=instruction, num_images=self._num_images)
        return self._template.encode_prompt([turn])
