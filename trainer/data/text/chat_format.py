"""How a model of others has dialogues written: strings, in which special tokens are spelt.

A format is what a chat template says, without its program: it can be kept in a configuration, and
writing a prompt by it runs nothing.

Axes: S token.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainer.data.errors import DataError
from trainer.data.text.chat import Template
from trainer.data.text.documents import Turn
from trainer.data.text.tokenizer import TextTokenizer


@dataclass(frozen=True, kw_only=True)
class ChatFormat:
    """What stands around the words of a dialogue.

    Attributes:
        begin: Before a dialogue whose first turn is no system's.
        before_system: Before a system's words, the dialogue's beginning included.
        after_system: After them.
        before_user: Before a user's pictures and words.
        before_images: Before a user's pictures, in before_user's place; where it is empty, that.
        after_user: After them.
        before_assistant: Before what the assistant says.
        lead: What all that the assistant says begins with, such as a space.
        after_assistant: After it; its first token is learnt, and ends what is said.
        image: The token that holds the place of one of a picture's.
        between_images: Between two pictures.
        after_images: After the last picture.
        end_of_text: After a text that is no dialogue.
    """

    begin: str = ""
    before_system: str = ""
    after_system: str = ""
    before_user: str = ""
    before_images: str = ""
    after_user: str = ""
    before_assistant: str = ""
    lead: str = ""
    after_assistant: str = ""
    image: str = ""
    between_images: str = ""
    after_images: str = ""
    end_of_text: str = ""


class FormattedTemplate(Template):
    """tokens_per_image: place holders a picture; 0 where nothing is seen."""

    def __init__(
        self, tokenizer: TextTokenizer, chat_format: ChatFormat, tokens_per_image: int
    ) -> None:
        """Raises DataError where the tokenizer lacks a token that the format needs."""
        self._tokenizer, self._format = tokenizer, chat_format
        self.image_token = None
        if tokens_per_image:
            self.image_token = tokenizer.special(chat_format.image)
        self._picture = [] if self.image_token is None else [self.image_token] * tokens_per_image
        ends = tokenizer.encode_marked(chat_format.after_assistant)
        if not ends:
            raise DataError(
                "no token that ends what an assistant says; expected one in chat.after_assistant",
                where=tokenizer.path,
            )
        self.end = ends[0]

    def encode_text(self, text: str) -> list[int]:
        end = self._tokenizer.encode_marked(self._format.end_of_text)
        return [*self._tokenizer.encode(text), *(end or [self.end])]

    def encode_turns(self, turns: Sequence[Turn], where: str) -> tuple[list[int], list[bool]]:
        del where
        is_begun = bool(turns) and turns[0].role == "system"
        tokens = [] if is_begun else self._mark("begin")
        said = [False] * len(tokens)
        for turn in turns:
            is_said = turn.role == "assistant"
            has_own_mark = turn.num_images and self._format.before_images
            mark = "before_images" if has_own_mark else f"before_{turn.role}"
            before = [*self._mark(mark), *self._pictures(turn.num_images)]
            words = self._tokenizer.encode(self._format.lead * is_said + turn.text)
            after = self._mark(f"after_{turn.role}")
            tokens += before + words + after
            # What comes behind the token that ends it is never drawn.
            said += [False] * len(before) + [is_said] * len(words)
            said += [is_said and place == 0 for place in range(len(after))]
        return tokens, said

    def encode_prompt(self, turns: Sequence[Turn]) -> list[int]:
        tokens, _ = self.encode_turns(turns, "")
        return [*tokens, *self._mark("before_assistant")]

    def _mark(self, name: str) -> list[int]:
        return self._tokenizer.encode_marked(getattr(self._format, name))

    def _pictures(self, count: int) -> list[int]:
        tokens: list[int] = []
        for number in range(count):
            tokens += self._picture
            tokens += self._mark("between_images" if number < count - 1 else "after_images")
        return tokens
