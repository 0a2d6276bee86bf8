"""A document of text, a dialogue or a picture with words, out of a record of whatever file.

A record is a row: values by column name. `Columns` says which column holds what; left alone, it
finds the names that people use.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Literal

import numpy as np

from trainer.data.errors import DataError

Role = Literal["system", "user", "assistant"]

# Where no column is named: the first of these that is there.
_KNOWN: Final[Mapping[str, tuple[str, ...]]] = {
    "tokens": ("input_ids", "token_ids", "tokens"),
    "messages": ("messages", "conversations", "conversation"),
    "image": ("image", "images", "jpg", "jpeg", "png", "webp", "image_path"),
    "question": ("question", "instruction", "prompt"),
    "answer": ("answer", "response", "output"),
    "caption": ("caption", "txt"),
    "text": ("text", "content", "txt"),
}
_ROLES: Final[Mapping[str, Role]] = {
    "system": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "model": "assistant",
}
# Where pictures stand within a turn's text; we put them before it.
_IMAGE_MARK = "<image>"


@dataclass(frozen=True, kw_only=True)
class Turn:
    """What one side says. num_images: pictures shown before the words."""

    role: Role
    text: str
    num_images: int = 0


@dataclass(frozen=True, kw_only=True, eq=False)
class Document:
    """Either plain text, or tokens, or turns, with the files of the pictures that they show.

    where: the file and line, for whoever must find it.
    """

    where: str
    text: str | None = None
    tokens: np.ndarray | None = None
    turns: tuple[Turn, ...] = ()
    images: tuple[bytes, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Columns:
    """Which column holds what; None finds it. `image`: bytes, or a path beside the file.

    A record with `tokens` is tokenised text; with `messages` a dialogue; with `image` and
    `question` image-QA; with `image` and `caption` a caption; with `question` and `answer` a
    dialogue of two turns; with `text` plain text. The first of these that fits counts.
    """

    text: str | None = None
    tokens: str | None = None
    messages: str | None = None
    image: str | None = None
    caption: str | None = None
    question: str | None = None
    answer: str | None = None
    # What a captioned picture is asked about: nothing, or a sentence such as "Describe it."
    caption_prompt: str = ""

    def chosen(self, names: Sequence[str], where: str) -> Columns:
        """With every column that is there named. Raises DataError for one that is not."""
        found: dict[str, Any] = {"caption_prompt": self.caption_prompt}
        for field in fields(self):
            if field.name == "caption_prompt":
                continue
            asked = getattr(self, field.name)
            if asked is not None and asked not in names:
                close = difflib.get_close_matches(asked, names, n=1, cutoff=0.5)
                hint = f" (did you mean {close[0]!r}?)" if close else ""
                raise DataError(
                    f"no column {asked!r} for {field.name}{hint}; there are {sorted(names)}",
                    where=where,
                )
            known = (name for name in _KNOWN[field.name] if name in names)
            found[field.name] = asked if asked is not None else next(known, None)
        if found["image"] is not None and found["caption"] is None:
            # A picture's text is its caption.
            found["caption"] = found["text"]
        return Columns(**found)


ReadFile = Callable[[str], bytes]


def parsed_json(text: str | bytes, what: str, where: str) -> Any:
    """Raises DataError for what is no JSON, is nested too deep or has a number too long to read."""
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{what}not JSON: {error}", where=where) from error


def document_of(
    record: Mapping[str, Any], columns: Columns, where: str, read_file: ReadFile
) -> Document:
    """read_file: gives the bytes of a picture that is named by its path.

    Raises DataError that names `where` for a record of which no document can be made.
    """
    chosen = columns.chosen([name for name, value in record.items() if value is not None], where)
    if chosen.tokens is not None:
        try:
            tokens = np.asarray(record[chosen.tokens])
        except ValueError as error:
            raise DataError(f"column {chosen.tokens!r}: {error}", where=where) from error
        if tokens.ndim != 1 or tokens.dtype.kind not in "iu" or not len(tokens):
            raise DataError(
                f"column {chosen.tokens!r}: expected a list of whole numbers, "
                f"got {tokens.shape} of {tokens.dtype}",
                where=where,
            )
        return Document(where=where, tokens=tokens)
    images = _images(record, chosen.image, where, read_file)
    turns = _turns(record, chosen, len(images), where)
    if turns:
        shown = sum(turn.num_images for turn in turns)
        if shown != len(images):
            raise DataError(f"the turns show {shown} images, got {len(images)}", where=where)
        return Document(where=where, turns=turns, images=images)
    if chosen.text is None:
        raise DataError(
            f"expected text, tokens, messages, or an image with a caption or a question; "
            f"there are {sorted(record)}",
            where=where,
        )
    text = _text(record, chosen.text, where)
    if not text.strip():
        raise DataError(f"column {chosen.text!r} is empty", where=where)
    return Document(where=where, text=text)


def _turns(
    record: Mapping[str, Any], columns: Columns, num_images: int, where: str
) -> tuple[Turn, ...]:
    if columns.messages is not None:
        return _messages(record[columns.messages], num_images, where)
    if columns.question is not None and columns.answer is not None:
        question = _text(record, columns.question, where).replace(_IMAGE_MARK, "").strip()
        answer = _text(record, columns.answer, where)
    elif columns.image is not None and columns.caption is not None:
        question, answer = columns.caption_prompt, _text(record, columns.caption, where)
    else:
        return ()
    return (
        Turn(role="user", text=question, num_images=num_images),
        Turn(role="assistant", text=answer.strip()),
    )


def _messages(value: Any, num_images: int, where: str) -> tuple[Turn, ...]:
    """In OpenAI's layout (role, content) or LLaVA's (from, value)."""
    if isinstance(value, str):
        value = parsed_json(value, "messages: ", where)
    if not isinstance(value, Sequence) or not len(value):
        raise DataError(f"messages: expected a list of turns, got {value!r}", where=where)
    turns = []
    for number, message in enumerate(value):
        name = message.get("role", message.get("from")) if isinstance(message, Mapping) else None
        if not isinstance(name, str) or name not in _ROLES:
            raise DataError(
                f"messages: turn {number}: expected a role of {', '.join(_ROLES)}, got {name!r}",
                where=where,
            )
        text, shown = _content(message.get("content", message.get("value")), number, where)
        _check_unicode(text, f"messages: turn {number}", where)
        turns.append(Turn(role=_ROLES[name], text=text, num_images=shown))
    if num_images and not any(turn.num_images for turn in turns):
        # Nobody said where: before the first question.
        first = next((n for n, turn in enumerate(turns) if turn.role == "user"), 0)
        turns[first] = Turn(role="user", text=turns[first].text, num_images=num_images)
    return tuple(turns)


def _content(content: Any, number: int, where: str) -> tuple[str, int]:
    if isinstance(content, str):
        return content.replace(_IMAGE_MARK, "").strip(), content.count(_IMAGE_MARK)
    if isinstance(content, Sequence):
        parts = [part for part in content if isinstance(part, Mapping)]
        texts = [str(part["text"]) for part in parts if part.get("text") is not None]
        return "\n".join(texts), sum(part.get("type") == "image" for part in parts)
    raise DataError(f"messages: turn {number}: expected text, got {content!r}", where=where)


def _text(record: Mapping[str, Any], column: str, where: str) -> str:
    value = record[column]
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError as error:
            raise DataError(f"column {column!r}: not UTF-8: {error}", where=where) from error
    if isinstance(value, str):
        _check_unicode(value, f"column {column!r}", where)
        return value
    raise DataError(f"column {column!r}: expected text, got {type(value).__name__}", where=where)


def _check_unicode(text: str, what: str, where: str) -> None:
    """JSON can spell half a character, of which no tokenizer knows the bytes."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise DataError(f"{what}: not Unicode: {error}", where=where) from error


def _images(
    record: Mapping[str, Any], column: str | None, where: str, read_file: ReadFile
) -> tuple[bytes, ...]:
    if column is None:
        return ()
    value = record[column]
    values = value if isinstance(value, (list, tuple)) else [value]
    return tuple(_image(one, column, where, read_file) for one in values)


def _image(value: Any, column: str, where: str, read_file: ReadFile) -> bytes:
    if isinstance(value, Mapping):
        # As Hugging Face's parquet files have it.
        value = value.get("bytes") or value.get("path")
    if isinstance(value, str):
        try:
            value = read_file(value)
        except (OSError, ValueError) as error:
            raise DataError(f"image {value!r} cannot be read: {error}", where=where) from error
    if not isinstance(value, bytes) or not value:
        raise DataError(
            f"column {column!r}: expected an image's bytes or path, got {type(value).__name__}",
            where=where,
        )
    return value
