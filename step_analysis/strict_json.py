"""Strict reading of small JSON objects from files that anybody may have written.

Python's decoder accepts NaN, keeps the last of two equal keys and lets lone surrogates
through; a record that decides between two policies may contain none of them.
"""

import json
import math
from collections.abc import Collection, Mapping
from difflib import get_close_matches
from typing import Any

JsonScalar = float | bool | str
_REJECTED_CONSTANT = "{} is not a JSON number"


class FormatError(ValueError):
    """A file or a line that is not what it should be; the text says what and where."""


def parse_object(text: str | bytes, what: str) -> dict[str, Any]:
    """The JSON object in `text`; `what` names it in errors, e.g. 'rollout record'.

    Raises:
        FormatError: not UTF-8, not JSON, not an object, NaN or infinity, a repeated key, a lone
            surrogate, or nesting deeper than the decoder allows.
    """
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        value = json.loads(
            text,
            parse_constant=_reject_constant,
            parse_float=_finite_float,
            object_pairs_hook=_unique_keys,
        )
        # Lone surrogates decode from \ud800 escapes and can be written to no file.
        json.dumps(value, ensure_ascii=False).encode("utf-8")
    except RecursionError:
        raise FormatError(f"{what}: nested too deeply") from None
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
    text = ascii(value) if not isinstance(value, str) else repr(value)
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def _reject_constant(name: str) -> float:
    raise ValueError(_REJECTED_CONSTANT.format(name))


def _finite_float(digits: str) -> float:
    number = float(digits)
    if not math.isfinite(number):
        raise ValueError(_REJECTED_CONSTANT.format(shown(digits)))
    return number


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        seen: set[str] = set()
        repeated = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"key {shown(repeated)} is there twice")
    return value
