"""What ruins a training on text or on pictures with words, found before it begins."""

from __future__ import annotations

import hashlib
import unicodedata
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from trainer.data.doctor.finding import Finding, Severity, most_severe_first
from trainer.data.errors import DataError
from trainer.data.image_files import decode_image
from trainer.data.text.documents import Document
from trainer.data.text.overview import words_of
from trainer.data.text.source import TextSource

# What a decoder puts in the place of bytes that it does not understand.
_REPLACEMENT = "\N{REPLACEMENT CHARACTER}"
_USUAL_CONTROLS = frozenset("\n\r\t\f")
# A question that is asked of so many pictures, and has one answer, is answered without looking.
_LEAST_ASKED = 20


@dataclass(frozen=True, kw_only=True)
class TextExamination:
    """findings: the most severe first. contents: a digest of each readable document, by digest its
    place, to compare with another data set's."""

    where: str
    num_documents: int
    num_pictures: int
    findings: tuple[Finding, ...]
    contents: dict[bytes, str] = field(repr=False)

    def to_json(self) -> dict[str, Any]:
        return {
            "where": self.where,
            "num_documents": self.num_documents,
            "num_pictures": self.num_pictures,
            "findings": list(map(finding_to_json, self.findings)),
        }


def examine(source: TextSource, *, progress: Callable[[range], Any] = iter) -> TextExamination:
    """Every document is read and every picture decoded. progress: wraps the documents' numbers.

    A document that cannot be read is a finding, and the others are examined all the same.
    """
    sightings = _Sightings()
    for index in progress(range(len(source))):
        try:
            document = source.document(index)
        except DataError as error:
            sightings.unreadable.append((f"number {index}", str(error)))
            continue
        sightings.look(document)
    return TextExamination(
        where=source.where,
        num_documents=len(source),
        num_pictures=sightings.num_pictures,
        findings=tuple(most_severe_first(sightings.findings())),
        contents=sightings.contents,
    )


def shared_findings(train: TextExamination, held: TextExamination) -> list[Finding]:
    """Documents that two data sets have in common, word for word and picture for picture."""
    shared = [place for digest, place in held.contents.items() if digest in train.contents]
    if not shared:
        return []
    return [
        Finding(
            check="shared-documents",
            severity=Severity.ERROR,
            episodes=tuple(shared),
            measured=f"{len(shared)} of {held.num_documents} validation documents are in training "
            "too",
            numbers={"num_shared": len(shared)},
            cost="validation measures memory, and picks the checkpoint that overfits",
            remedy="take them out of one of the two",
        )
    ]


def finding_to_json(finding: Finding) -> dict[str, Any]:
    """What has it are documents here, by their places."""
    facts = finding.to_json()
    del facts["steps"]
    return facts | {"documents": facts.pop("episodes")}


class _Sightings:
    """Digests and places, never the documents: a data set may be larger than memory."""

    def __init__(self) -> None:
        self.contents: dict[bytes, str] = {}
        self.num_pictures = 0
        self.unreadable: list[tuple[str, str]] = []
        self._copies: list[tuple[str, str]] = []
        self._garbled: list[str] = []
        self._unanswered: list[str] = []
        self._broken_pictures: list[tuple[str, str]] = []
        self._answers: dict[str, tuple[int, str | None]] = {}

    def look(self, document: Document) -> None:
        digest = _digest(document)
        if digest in self.contents:
            self._copies.append((document.where, self.contents[digest]))
        else:
            self.contents[digest] = document.where
        if any(_is_garbled(text) for text in words_of(document)):
            self._garbled.append(document.where)
        if document.turns and not any(
            turn.role == "assistant" and turn.text.strip() for turn in document.turns
        ):
            self._unanswered.append(document.where)
        self.num_pictures += len(document.images)
        for image in document.images:
            try:
                decode_image(image)
            except DataError as error:
                self._broken_pictures.append((document.where, str(error)))
                break
        if document.images:
            self._note_answers(document)

    def _note_answers(self, document: Document) -> None:
        for turn, reply in zip(document.turns, document.turns[1:], strict=False):
            if turn.role == "user" and reply.role == "assistant" and turn.text:
                number, answer = self._answers.get(turn.text, (0, reply.text))
                same = answer if answer == reply.text else None
                self._answers[turn.text] = (number + 1, same)

    def findings(self) -> list[Finding]:
        copies = self._copies
        return [
            *_found(
                "unreadable",
                [place for place, _ in self.unreadable],
                measured="documents cannot be read" + _first(self.unreadable),
                cost="training stops at them",
                remedy="mend or remove them",
            ),
            *_found(
                "picture",
                [place for place, _ in self._broken_pictures],
                measured="documents have a picture that is none" + _first(self._broken_pictures),
                cost="training stops at them",
                remedy="fetch the pictures anew as JPEG or PNG, or remove the documents",
            ),
            *_found(
                "no-answer",
                self._unanswered,
                measured="dialogues in which the assistant says nothing",
                cost="nothing is learnt of them, and they fill sequences",
                remedy="give them answers, or remove them",
            ),
            *_found(
                "duplicate-documents",
                [place for place, _ in copies],
                severity=Severity.WARNING,
                measured="documents are copies of others"
                + (f"; {copies[0][0]} is {copies[0][1]}" if copies else ""),
                cost="they weigh double, and what is held out may be in training too",
                remedy="remove the copies",
            ),
            *_found(
                "garbled-text",
                self._garbled,
                severity=Severity.WARNING,
                measured="documents have replacement or control characters",
                cost="the model learns to write them",
                remedy="decode the sources by their own encoding, or remove them",
            ),
            *self._blind_questions(),
        ]

    def _blind_questions(self) -> list[Finding]:
        return [
            Finding(
                check="same-answer",
                severity=Severity.WARNING,
                subject=repr(question),
                measured=f"asked of {number} pictures, and always answered by {answer!r}",
                numbers={"num_asked": number},
                cost="it is answered without looking",
                remedy="ask it of pictures with other answers too",
            )
            for question, (number, answer) in self._answers.items()
            if answer is not None and number >= _LEAST_ASKED
        ]


def _found(
    check: str,
    places: list[str],
    *,
    measured: str,
    cost: str,
    remedy: str,
    severity: Severity = Severity.ERROR,
) -> list[Finding]:
    """measured: what so many documents are; nothing is found where there are none."""
    if not places:
        return []
    return [
        Finding(
            check=check,
            severity=severity,
            episodes=tuple(places),
            measured=f"{len(places)} {measured}",
            numbers={"num_documents": len(places)},
            cost=cost,
            remedy=remedy,
        )
    ]


def _first(seen: list[tuple[str, str]]) -> str:
    return f"; the first: {seen[0][1]}" if seen else ""


def _digest(document: Document) -> bytes:
    """Of what a training sees of it: 16 bytes."""
    hasher = hashlib.sha256()
    if document.tokens is not None:
        hasher.update(b"tokens")
        hasher.update(document.tokens.astype("<i8").tobytes())
    for part in (document.text, *(f"{turn.role} {turn.text}" for turn in document.turns)):
        data = (part or "").encode()
        hasher.update(len(data).to_bytes(8, "little") + data)
    for image in document.images:
        hasher.update(hashlib.sha256(image).digest())
    return hasher.digest()[:16]


def _is_garbled(text: str) -> bool:
    return _REPLACEMENT in text or any(
        unicodedata.category(character) == "Cc" for character in set(text) - _USUAL_CONTROLS
    )
