"""Dialogues to tokens, and which of them are answers.

`ChatTemplate` is ours. A turn is its role's token, its pictures' tokens, its words and an end:

    <|begin|><|user|><|image|>...How many mugs?<|end|><|assistant|>Two.<|end|>

`HubChatTemplate` is that of a `transformers` tokenizer. Either gives tokens and marks what the
model has to say: the assistant's words and the token that ends them.

Axes: S token.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np

from trainer.data.errors import DataError
from trainer.data.text.documents import Turn
from trainer.data.text.tokenizer import ASSISTANT, BEGIN, END, IMAGE, SYSTEM, USER, TextTokenizer


class Template(ABC):
    """image_token: the vocabulary's place holder for one token of a picture; None: no pictures."""

    image_token: int | None

    @abstractmethod
    def encode_text(self, text: str) -> list[int]:
        """A plain document, its beginning and end marked as the model knows them."""

    @abstractmethod
    def encode_turns(self, turns: Sequence[Turn], where: str) -> tuple[list[int], list[bool]]:
        """(S,) tokens, and (S,) whether the assistant says them.

        Raises DataError where the template cannot say it.
        """

    @abstractmethod
    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        """Of turns that the assistant has yet to answer: what generation begins with."""


class ChatTemplate(Template):
    """tokens_per_image: place holders a picture, as many as the vision model gives."""

    def __init__(self, tokenizer: TextTokenizer, tokens_per_image: int) -> None:
        self.tokenizer, self.tokens_per_image = tokenizer, tokens_per_image
        self.image_token = self._image = tokenizer.special(IMAGE)
        self._begin, self._end = tokenizer.special(BEGIN), tokenizer.special(END)
        self._roles = {
            "system": tokenizer.special(SYSTEM),
            "user": tokenizer.special(USER),
            "assistant": tokenizer.special(ASSISTANT),
        }

    def encode_text(self, text: str) -> list[int]:
        return [self._begin, *self.tokenizer.encode(text), self._end]

    def encode_turns(self, turns: Sequence[Turn], where: str) -> tuple[list[int], list[bool]]:
        del where
        tokens, said = [self._begin], [False]
        for turn in turns:
            pictures = [self._image] * (turn.num_images * self.tokens_per_image)
            before = [self._roles[turn.role], *pictures]
            words = [*self.tokenizer.encode(turn.text), self._end]
            tokens += before + words
            said += [False] * len(before) + [turn.role == "assistant"] * len(words)
        return tokens, said

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        tokens, _ = self.encode_turns(turns, "")
        return [*tokens, self._roles["assistant"]]


class HubChatTemplate(Template):
    """tokenizer: a `transformers` tokenizer with a chat template.

    image: its token for pictures ("<image>", "<|image_pad|>"), written before a turn's words
    tokens_per_image times a picture; None where it knows none.

    What the assistant says is what the template adds to a dialogue when it answers; a template
    that changes what came before cannot be marked so, and is refused.
    """

    def __init__(
        self, tokenizer: Any, *, image: str | None = None, tokens_per_image: int = 0
    ) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise DataError(
                f"tokenizer {getattr(tokenizer, 'name_or_path', '')!r} has no chat template"
            )
        self._tokenizer, self._image, self._per_image = tokenizer, image, tokens_per_image
        self.image_token = None
        if image is not None:
            self.image_token = tokenizer.convert_tokens_to_ids(image)
            if self.image_token is None or self.image_token == tokenizer.unk_token_id:
                raise DataError(f"the tokenizer has no token {image!r} for images")

    def encode_text(self, text: str) -> list[int]:
        tokens = list(self._tokenizer(text, add_special_tokens=True)["input_ids"])
        end = self._tokenizer.eos_token_id
        return tokens if end is None or tokens[-1:] == [end] else [*tokens, end]

    def encode_turns(self, turns: Sequence[Turn], where: str) -> tuple[list[int], list[bool]]:
        whole = self._apply(turns, answers=False)
        said = [False] * len(whole)
        for number, turn in enumerate(turns):
            if turn.role != "assistant":
                continue
            before = self._apply(turns[:number], answers=True)
            after = self._apply(turns[: number + 1], answers=False)
            if after[: len(before)] != before or whole[: len(after)] != after:
                raise DataError(
                    "the tokenizer's chat template changes earlier turns when later ones come, "
                    "so that what the assistant says cannot be told",
                    where=where,
                )
            said[len(before) : len(after)] = [True] * (len(after) - len(before))
        return whole, said

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        return self._apply(turns, answers=True)

    def _apply(self, turns: Sequence[Turn], *, answers: bool) -> list[int]:
        messages = [{"role": turn.role, "content": self._content(turn)} for turn in turns]
        applied = self._tokenizer.apply_chat_template(
            messages, tokenize=True, add_generation_prompt=answers, return_dict=True
        )
        return [int(token) for token in np.asarray(applied["input_ids"]).reshape(-1)]

    def _content(self, turn: Turn) -> str:
        if turn.num_images and self._image is None:
            raise DataError("the template was given no token for images, and the data has some")
        return (self._image or "") * (turn.num_images * self._per_image) + turn.text
