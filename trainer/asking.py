"""How often a model is right about pictures: each question of some data, asked by itself."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from statistics import median

from trainer.data.text.documents import Document

# Words that say of which kind a question is: `Point at` the box, `What colour` is it.
_WORDS_OF_A_KIND = 2


@dataclass(frozen=True, kw_only=True)
class Question:
    """right: as the data answer it. A caption is asked for by no words."""

    images: tuple[bytes, ...]
    text: str
    right: str

    @property
    def kind(self) -> str:
        words = re.findall(r"\w+", self.text)[:_WORDS_OF_A_KIND]
        return " ".join(words) or "(a caption)"


@dataclass(frozen=True, kw_only=True)
class KindScore:
    """How questions of one kind were answered.

    Attributes:
        num_questions: How many were asked.
        num_right: Word for word, whatever the case and the spaces at the ends.
        num_counted: Of those whose right answer has numbers, how many were answered by as many.
        median_off: How far those numbers are from the right ones, each the mean of its own; None
            where none was counted.
    """

    kind: str
    num_questions: int
    num_right: int
    num_counted: int
    median_off: float | None


def questions_of(documents: Iterable[Document]) -> Iterator[Question]:
    """Every turn about a picture that has an answer, without what was said before it."""
    for document in documents:
        if not document.images:
            continue
        for turn, reply in zip(document.turns, document.turns[1:], strict=False):
            if turn.role == "user" and reply.role == "assistant":
                yield Question(images=document.images, text=turn.text, right=reply.text)


def scores(questions: Iterable[Question], say: Callable[[Question], str]) -> list[KindScore]:
    """By kind, the most frequent first. say: what the model answers."""
    said: dict[str, list[tuple[Question, str]]] = {}
    for question in questions:
        said.setdefault(question.kind, []).append((question, say(question)))
    found = [_score(kind, answered) for kind, answered in said.items()]
    return sorted(found, key=lambda score: (-score.num_questions, score.kind))


def _score(kind: str, answered: list[tuple[Question, str]]) -> KindScore:
    right = [said.strip().casefold() == one.right.strip().casefold() for one, said in answered]
    pairs = [(_numbers(one.right), _numbers(said)) for one, said in answered]
    off = [
        sum(abs(a - b) for a, b in zip(expected, given, strict=True)) / len(expected)
        for expected, given in pairs
        if expected and len(expected) == len(given)
    ]
    return KindScore(
        kind=kind,
        num_questions=len(answered),
        num_right=sum(right),
        num_counted=len(off),
        median_off=median(off) if off else None,
    )


def _numbers(text: str) -> list[float]:
    return [float(number) for number in re.findall(r"\d{1,15}(?:\.\d{1,15})?", text)]
