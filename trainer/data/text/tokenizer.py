"""Text to tokens and back, by a tokenizer.json of Hugging Face's `tokenizers`.

Text never becomes a special token, whatever it says: a document that spells `<|end|>` is taken
letter by letter.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, Final, NamedTuple

from trainer.atomic_file import atomic_file
from trainer.data.errors import DataError

# Ours, first in the vocabulary, in this order.
PAD, BEGIN, END = "<|pad|>", "<|begin|>", "<|end|>"
SYSTEM, USER, ASSISTANT, IMAGE = "<|system|>", "<|user|>", "<|assistant|>", "<|image|>"
SPECIAL_TOKENS: Final = (PAD, BEGIN, END, SYSTEM, USER, ASSISTANT, IMAGE)
_NUM_BYTES = 256


class TemplateToken(NamedTuple):
    """start, stop: its place in the text."""

    number: int
    start: int
    stop: int
    is_special: bool


class TextTokenizer:
    """path: a tokenizer.json, or a folder that holds one. text: its content, where it has been
    read or made already."""

    def __init__(self, path: Path, text: str | None = None) -> None:
        """Raises DataError for a file that is none."""
        self.path = path / "tokenizer.json" if path.is_dir() and text is None else path
        try:
            self._text = self.path.read_text() if text is None else text
        except OSError as error:
            raise DataError(f"cannot be read: {error.strerror}", where=self.path) from error
        except UnicodeDecodeError as error:
            raise DataError(f"no tokenizer of `tokenizers`: {error}", where=self.path) from error
        self._tokenizer = self._made()
        self._tokenizer.encode_special_tokens = True

    def _made(self) -> Any:
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(self._text)
        except Exception as error:
            raise DataError(f"no tokenizer of `tokenizers`: {error}", where=self.path) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        return tokenizer

    @cached_property
    def _marking(self) -> Any:
        """One that knows special tokens by their names."""
        return self._made()

    @property
    def vocabulary_size(self) -> int:
        return self._tokenizer.get_vocab_size(with_added_tokens=True)

    def encode(self, text: str) -> list[int]:
        """Of plain text, without special tokens."""
        return self._tokenizer.encode(text, add_special_tokens=False).ids

    def encode_template(self, text: str) -> list[TemplateToken]:
        """Of text of ours, in which a special token's name is that token."""
        specials = self._tokenizer.get_added_tokens_decoder().keys()
        found = self._marking.encode(text, add_special_tokens=False)
        return [
            TemplateToken(number, start, stop, number in specials)
            for number, (start, stop) in zip(found.ids, found.offsets, strict=True)
        ]

    def added_tokens(self) -> list[str]:
        """Those that it puts around any text by itself."""
        return self._tokenizer.encode("", add_special_tokens=True).tokens

    def encode_marked(self, text: str) -> list[int]:
        """Of text that we wrote, in which special tokens are spelt."""
        return self._marking.encode(text, add_special_tokens=False).ids

    def decode(self, tokens: Sequence[int]) -> str:
        """Special tokens are left out."""
        return self._tokenizer.decode(list(tokens))

    def special(self, name: str) -> int:
        """A special token's number. Raises DataError that says which there are."""
        number = self._tokenizer.token_to_id(name)
        if number is None:
            raise DataError(
                f"no special token {name!r}; there are {', '.join(self.special_names) or 'none'}",
                where=self.path,
            )
        return number

    @property
    def special_names(self) -> list[str]:
        """Of the tokens that text never becomes."""
        added = self._tokenizer.get_added_tokens_decoder().values()
        return [token.content for token in added if token.special]

    def content(self) -> dict[str, Any]:
        """The file's JSON, to be kept beside what was made with it."""
        return json.loads(self._text)


def train_tokenizer(texts: Iterable[str], vocabulary_size: int, path: Path) -> TextTokenizer:
    """A byte-level BPE of texts, written as tokenizer.json; any text has tokens in it.

    The same texts in the same order give the same file. Raises DataError for a vocabulary that
    does not hold the special tokens and all bytes, and where there is no text.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

    smallest = _NUM_BYTES + len(SPECIAL_TOKENS)
    if vocabulary_size < smallest:
        raise DataError(f"vocabulary_size: expected at least {smallest}, got {vocabulary_size}")
    counted = _Counted(texts)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size,
        special_tokens=list(SPECIAL_TOKENS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    tokenizer.train_from_iterator(counted, trainer=trainer)
    if not counted.num_characters:
        raise DataError("no text to train a tokenizer on")
    path.parent.mkdir(parents=True, exist_ok=True)
    with atomic_file(path) as file:
        file.write(tokenizer.to_str(pretty=True).encode())
    return TextTokenizer(path)


class _Counted:
    """Counts characters as they pass."""

    def __init__(self, texts: Iterable[str]) -> None:
        self._texts = texts
        self.num_characters = 0

    def __iter__(self) -> Iterator[str]:
        for text in self._texts:
            self.num_characters += len(text)
            yield text
