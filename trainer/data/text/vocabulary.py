"""How text is said in a tokenizer's tokens, whoever made it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.errors import DataError
from trainer.data.text.chat import ChatTemplate, Template
from trainer.data.text.chat_format import ChatFormat, FormattedTemplate
from trainer.data.text.documents import Turn
from trainer.data.text.tokenizer import SPECIAL_TOKENS, TextTokenizer

# How tokenizers that are not ours mark a document's end.
_FOREIGN_ENDS = ("<|endoftext|>", "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")


class EndedText(Template):
    """Of a tokenizer without our special tokens: plain text, and a token that ends it."""

    def __init__(self, tokenizer: TextTokenizer, end: int) -> None:
        self.image_token = None
        self._tokenizer, self._end = tokenizer, end

    def encode_text(self, text: str) -> list[int]:
        return [*self._tokenizer.encode(text), self._end]

    def encode_turns(self, turns: Sequence[Turn], where: str) -> tuple[list[int], list[bool]]:
        del turns
        raise DataError(
            "a dialogue, for whose roles the tokenizer has no tokens; train one on the data, by "
            "giving none",
            where=where,
        )

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        raise DataError("the tokenizer has no tokens for the roles of a dialogue")


@dataclass(frozen=True, kw_only=True)
class Vocabulary:
    """How text is said in tokens. begin: before a document's first, if anything. end: after it."""

    tokenizer: TextTokenizer
    template: Template
    begin: tuple[int, ...]
    end: int

    @property
    def pad(self) -> int:
        """Any token does: nothing is learnt there, and nothing looks at it."""
        return self.end

    @staticmethod
    def of(
        tokenizer: TextTokenizer, tokens_per_image: int = 0, chat: ChatFormat | None = None
    ) -> Vocabulary:
        """chat: how dialogues are written for a model of others.

        Raises DataError for one that has no token for a document's end, or none for images where
        there are some."""
        if chat is not None:
            template = FormattedTemplate(tokenizer, chat, tokens_per_image)
            return Vocabulary(tokenizer=tokenizer, template=template, begin=(), end=template.end)
        if all(_number(tokenizer, name) is not None for name in SPECIAL_TOKENS):
            template = ChatTemplate(tokenizer, tokens_per_image)
            begin, end = template.encode_text("")
            return Vocabulary(tokenizer=tokenizer, template=template, begin=(begin,), end=end)
        if tokens_per_image:
            raise DataError(
                f"no token for images; expected all of {', '.join(SPECIAL_TOKENS)}",
                where=tokenizer.path,
            )
        end = next(
            (n for name in _FOREIGN_ENDS if (n := _number(tokenizer, name)) is not None), None
        )
        if end is None:
            raise DataError(
                f"no token that ends a document; expected one of {', '.join(_FOREIGN_ENDS)}",
                where=tokenizer.path,
            )
        return Vocabulary(
            tokenizer=tokenizer, template=EndedText(tokenizer, end), begin=(), end=end
        )


def _number(tokenizer: TextTokenizer, name: str) -> int | None:
    try:
        return tokenizer.special(name)
    except DataError:
        return None
