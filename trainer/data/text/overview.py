"""What a text data set holds: documents by kind, how long they are, and their pictures."""

from __future__ import annotations

from array import array
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from trainer.data.errors import DataError
from trainer.data.image_files import image_size
from trainer.data.text.documents import Document
from trainer.data.text.source import TextSource

Kind = Literal["text", "tokens", "dialogue", "dialogue with pictures"]
_PERCENTILES = (50, 95, 99)


@dataclass(frozen=True, kw_only=True)
class Lengths:
    """Of documents: the sum, and the mean, the percentiles and the ends of it."""

    total: int
    mean: float
    least: int
    median: float
    percentile_95: float
    percentile_99: float
    greatest: int


@dataclass(frozen=True, kw_only=True)
class TextOverview:
    """kinds: how many documents are of each. num_turns: of dialogues. num_answers: those of the
    assistant. picture_sizes: how many are WIDTHxHEIGHT. characters: of the documents' words; None
    where all are tokens. tokens: that the data hold, or that a tokenizer makes of the words; None
    where there are neither."""

    where: str
    num_documents: int
    kinds: dict[Kind, int]
    num_turns: int
    num_answers: int
    num_pictures: int
    picture_sizes: dict[str, int]
    characters: Lengths | None
    tokens: Lengths | None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def overview(
    source: TextSource,
    encode: Callable[[str], Sequence[int]] | None = None,
    *,
    progress: Callable[[range], Any] = iter,
) -> TextOverview:
    """In one pass. encode: gives a text's tokens. progress: wraps the documents' numbers.

    Raises DataError for a document that cannot be read, and for a picture that is none.
    """
    kinds: Counter[Kind] = Counter()
    sizes: Counter[str] = Counter()
    num_turns = num_answers = 0
    characters, tokens = array("q"), array("q")
    for index in progress(range(len(source))):
        document = source.document(index)
        kinds[kind_of(document)] += 1
        num_turns += len(document.turns)
        num_answers += sum(turn.role == "assistant" for turn in document.turns)
        sizes.update(_size(image, document) for image in document.images)
        if document.tokens is not None:
            tokens.append(len(document.tokens))
            continue
        words = words_of(document)
        characters.append(sum(map(len, words)))
        if encode is not None:
            tokens.append(sum(len(encode(text)) for text in words))
    return TextOverview(
        where=source.where,
        num_documents=len(source),
        kinds=dict(kinds.most_common()),
        num_turns=num_turns,
        num_answers=num_answers,
        num_pictures=sizes.total(),
        picture_sizes=dict(sizes.most_common()),
        characters=_lengths(characters),
        tokens=_lengths(tokens),
    )


def kind_of(document: Document) -> Kind:
    if document.tokens is not None:
        return "tokens"
    if not document.turns:
        return "text"
    return "dialogue with pictures" if document.images else "dialogue"


def words_of(document: Document) -> tuple[str, ...]:
    """A text by itself, or what each turn says."""
    if document.text is not None:
        return (document.text,)
    return tuple(turn.text for turn in document.turns)


def _size(image: bytes, document: Document) -> str:
    try:
        height, width = image_size(image)
    except DataError as error:
        raise DataError(str(error), where=document.where) from error
    return f"{width}x{height}"


def _lengths(numbers: array[int]) -> Lengths | None:
    if not numbers:
        return None
    values = np.frombuffer(numbers, np.int64)
    median, high, highest = np.percentile(values, _PERCENTILES)
    return Lengths(
        total=int(values.sum()),
        mean=float(values.mean()),
        least=int(values.min()),
        median=float(median),
        percentile_95=float(high),
        percentile_99=float(highest),
        greatest=int(values.max()),
    )
