"""A document as a model reads it: tokens, which of them are learnt, and its pictures.

Axes: S token, P picture.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from trainer.data.errors import DataError
from trainer.data.text.chat import Template
from trainer.data.text.documents import Document

Learnt = Literal["answers", "text"]


@dataclass(frozen=True, kw_only=True, eq=False)
class EncodedDocument:
    """token: (S,) int32. learnt: (S,), whether the model should learn to say it.

    image_start: (P,), where each picture's place holders begin. tokens_per_image: of each.
    """

    token: npt.NDArray[np.int32]
    learnt: npt.NDArray[np.bool_]
    image_start: npt.NDArray[np.int64]
    tokens_per_image: int = 0

    def __len__(self) -> int:
        return len(self.token)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """learnt: of dialogues, the answers alone or every token but the pictures'.

    Plain and tokenised text is learnt whole. vocabulary_size: tokens of data that is tokenised
    already are checked against it.
    """

    template: Template
    vocabulary_size: int
    learnt: Learnt = "answers"

    def encode(self, document: Document) -> EncodedDocument:
        """Raises DataError naming the file and line."""
        if document.tokens is not None:
            token = document.tokens.astype(np.int64)
            if token.min() < 0 or token.max() >= self.vocabulary_size:
                raise DataError(
                    f"tokens from {token.min()} to {token.max()}, but the vocabulary has "
                    f"{self.vocabulary_size}: they are another tokenizer's",
                    where=document.where,
                )
            return _encoded(token, np.ones(len(token), bool), None, 0, document)
        if document.text is not None:
            token = np.array(self.template.encode_text(document.text), np.int64)
            return _encoded(token, np.ones(len(token), bool), None, 0, document)
        tokens, said = self.template.encode_turns(document.turns, document.where)
        learnt = np.array(said) if self.learnt == "answers" else np.ones(len(tokens), bool)
        return _encoded(
            np.array(tokens, np.int64),
            learnt,
            self.template.image_token,
            len(document.images),
            document,
        )


def _encoded(
    token: npt.NDArray[np.int64],
    learnt: npt.NDArray[np.bool_],
    image_token: int | None,
    num_images: int,
    document: Document,
) -> EncodedDocument:
    held = np.flatnonzero(token == image_token) if num_images else np.zeros(0, np.int64)
    if num_images and (not len(held) or len(held) % num_images):
        raise DataError(
            f"{num_images} images have {len(held)} place holders among the tokens",
            where=document.where,
        )
    per_image = len(held) // num_images if num_images else 0
    learnt = learnt.copy()
    learnt[held] = False
    return EncodedDocument(
        token=token.astype(np.int32),
        learnt=learnt,
        image_start=held[::per_image] if per_image else held,
        tokens_per_image=per_image,
    )


Overlong = Literal["split", "truncate", "refuse"]


def pieces(
    document: EncodedDocument, length: int, overlong: Overlong, where: str
) -> list[tuple[int, int]]:
    """Where a document is cut so that no part is longer than `length` tokens: start and stop.

    A cut never goes through a picture. Parts in which nothing is learnt are left out.

    Raises DataError for a document too long where that is refused, and for a picture that is
    longer than a part.
    """
    if len(document) > length and overlong == "refuse":
        raise DataError(f"{len(document)} tokens, but a sequence has {length}", where=where)
    if document.tokens_per_image > length:
        raise DataError(
            f"a picture has {document.tokens_per_image} tokens, but a sequence {length}",
            where=where,
        )
    parts: list[tuple[int, int]] = []
    start = 0
    while start < len(document):
        stop = min(start + length, len(document))
        within = (document.image_start < stop) & (
            document.image_start + document.tokens_per_image > stop
        )
        if within.any():
            stop = int(document.image_start[within][0])
        parts.append((start, stop))
        start = stop
        if overlong == "truncate":
            break
    # The first token of a part has nothing before it to be told from.
    return [(start, stop) for start, stop in parts if document.learnt[start + 1 : stop].any()]
