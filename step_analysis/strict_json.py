"""Strict reading of small JSON objects from files that anybody may have written.

Python's decoder accepts NaN, keeps the last of two equal keys and lets lone surrogates
through; a record that decides between two policies may contain none of them.
"""

import json
import math
import re
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

JsonScalar = float | bool | str
MAX_FILE_BYTES = 64 * 2**20
"""Four thousand episodes with a traceback each take 15 MiB."""
MAX_NUMBER = 1e15
"""Of what is measured; thirty million years in seconds. An integer in JSON may have more digits
than a float can hold."""

_LARGE = 4096
"""Characters; shorter texts, such as a ledger's lines, have times of day and their colons."""
_MAX_DEPTH = 64
_MAX_SHOWN_DEPTH = 6
_MAX_SHOWN_PATH = 80
_STRING = r'"([^"\\]*(?:\\.[^"\\]*)*)"(\s*:)?'
_TOKEN = re.compile(_STRING + r"|[\[\]{},]", re.DOTALL)
_TOKEN_OR_LITERAL = re.compile(_STRING + r"|[^\s\[\]{},:\"]+", re.DOTALL)


class FormatError(ValueError):
    """A file or a line that is not what it should be; the text says what and where."""


def read_bounded(path: Path, max_bytes: int = MAX_FILE_BYTES) -> bytes:
    """The content of a small file.

    Raises:
        FormatError: it is larger than `max_bytes`, which no honest file of its kind is.
        OSError: it can't be read.
    """
    size = path.stat().st_size
    if size > max_bytes:
        raise FormatError(
            f"{size / 2**20:.0f} MiB, more than the {max_bytes / 2**20:.0f} MiB that are read; "
            "split the file"
        )
    return path.read_bytes()


def parse_object(text: str | bytes, what: str, *, allow_nan: bool = False) -> dict[str, Any]:
    """The JSON object in `text`; `what` names it in errors, e.g. 'rollout record'.

    Args:
        allow_nan: let NaN and infinities through, for the files of others that hold them among
            figures that nobody reads; what is read must then be checked.

    Raises:
        FormatError: not UTF-8, not JSON, not an object, NaN or infinity, a repeated key, a lone
            surrogate, or nesting deeper than the decoder allows; names the field where it is.
    """
    try:
        text = text.decode("utf-8") if isinstance(text, bytes) else text
    except UnicodeDecodeError as error:
        raise FormatError(f"{what}: not strict JSON: {error}") from None
    try:
        value = _decoded(text, allow_nan)
        _refuse_lone_surrogates(text, value)
    except RecursionError:
        field = _field_at(text, _position_of_depth(text, _MAX_DEPTH))
        raise FormatError(f"{what}: nested too deeply{field}") from None
    except json.JSONDecodeError as error:
        field = _field_at(text, error.pos)
        raise FormatError(f"{what}: not strict JSON: {error}{field}") from None
    except _NotANumberError as error:
        field = _field_at(text, _position_of(text, error.token))
        raise FormatError(f"{what}: not strict JSON: {error}{field}") from None
    except ValueError as error:
        raise FormatError(f"{what}: not strict JSON: {error}") from None
    if not isinstance(value, dict):
        raise FormatError(f"{what}: a JSON object was expected, got {shown(value)}")
    return value


def check_keys(
    value: Mapping[str, Any], required: Collection[str], what: str, optional: Collection[str] = ()
) -> None:
    """Every required key is there and no key is unknown, or FormatError names the difference."""
    known = [*required, *optional]
    unknown = [key for key in value if key not in known]
    if unknown:
        near = get_close_matches(unknown[0], known, n=1)
        hint = f" (did you mean '{near[0]}'?)" if near else ""
        raise FormatError(f"{what}: unknown field {shown(unknown[0])}{hint}")
    missing = [key for key in required if key not in value]
    if missing:
        raise FormatError(f"{what}: missing {', '.join(missing)}")


def check_version(value: Mapping[str, Any], expected: int, what: str) -> None:
    """The object's `version` is the one this code reads."""
    version = value.get("version")
    if type(version) is not int or version != expected:
        raise FormatError(
            f"{what}: version {shown(version)} can't be read, this code reads version {expected}"
        )


def shown(value: object, limit: int = 80) -> str:
    """A value as an error shows it: one line, bounded, control characters escaped."""
    try:
        text = ascii(value) if not isinstance(value, str) else repr(value)
    except RecursionError:
        text = f"a deeply nested {type(value).__name__}"
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


class _NotANumberError(ValueError):
    def __init__(self, token: str) -> None:
        super().__init__(f"{shown(token) if token[-1].isdigit() else token} is not a JSON number")
        self.token = token


def _decoded(text: str, allow_nan: bool) -> Any:
    """The value, in which no key of any object was there twice."""
    decode = partial(
        json.loads,
        text,
        parse_constant=float if allow_nan else _reject_constant,
        parse_float=float if allow_nan else _finite_float,
    )
    if len(text) > _LARGE:
        # Each key has a colon: where different keys are as many as colons, none is there twice.
        # In large files this takes two thirds of the time of looking at each pair.
        num_keys = 0

        def counted(value: dict[str, Any]) -> dict[str, Any]:
            nonlocal num_keys
            num_keys += len(value)
            return value

        value = decode(object_hook=counted)
        if num_keys == text.count(":"):
            return value
    return decode(object_pairs_hook=_unique_keys)


def _reject_constant(name: str) -> float:
    raise _NotANumberError(name)


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise _NotANumberError(digits)
    return number


def _refuse_lone_surrogates(text: str, value: Any) -> None:
    """They decode from \\ud800 escapes, or come in a str, and can be written to no file."""
    if not text.isascii():
        text.encode("utf-8")
    # One character is found many times faster than two.
    if "\\" in text and ("\\ud" in text or "\\uD" in text):
        json.dumps(value, ensure_ascii=False).encode("utf-8")


def _field_at(text: str, position: int) -> str:
    """Where in the document a character is, as ', in evaluations[3].total_time'; '' at its top."""
    stack: list[str | int] = []
    for token in _TOKEN.finditer(text, 0, position):
        mark = token[0][0]
        if mark in "[{":
            stack.append(0 if mark == "[" else "")
        elif not stack:
            continue
        elif mark in "]}":
            stack.pop()
        elif mark == ",":
            above = stack[-1]
            stack[-1] = above + 1 if isinstance(above, int) else ""
        elif token[2] is not None and stack[-1] == "":
            stack[-1] = token[1]
    names = [f"[{step}]" if isinstance(step, int) else f".{step}" for step in stack if step != ""]
    deep = "..." if len(names) > _MAX_SHOWN_DEPTH else ""
    path = "".join(names[:_MAX_SHOWN_DEPTH]).removeprefix(".")
    shown_path = "".join(c if c.isprintable() else "?" for c in path[:_MAX_SHOWN_PATH])
    return f", in {shown_path}{deep}" if path else ""


def _position_of_depth(text: str, depth: int) -> int:
    """Just past the bracket that opens nesting of that depth."""
    level = 0
    for token in _TOKEN.finditer(text):
        level += {"[": 1, "{": 1, "]": -1, "}": -1}.get(token[0][0], 0)
        if level > depth:
            return token.end()
    return len(text)


def _position_of(text: str, literal: str) -> int:
    """Of the first `literal` that stands outside strings."""
    for token in _TOKEN_OR_LITERAL.finditer(text):
        if token[0] == literal:
            return token.start()
    return 0


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {shown(repeated)} is there twice")
    return value
