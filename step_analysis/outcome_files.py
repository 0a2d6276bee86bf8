"""Files of outcomes: 0 and 1, and nothing else."""

import json
import re
from pathlib import Path

from step_analysis.usage import UsageError

_LARGEST_BYTES = 8_000_000
_SEPARATOR = re.compile(r"\s*,\s*|\s+")
_OUTCOMES = {"0": 0, "1": 1}


def read_outcomes(path: Path) -> list[int]:
    """The outcomes in a file, in order.

    They are separated by white space or commas, or one JSON list, or one run of digits such as
    0110.

    Raises:
        UsageError: the file is empty, too large, or holds anything but 0 and 1.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        content = file.read(_LARGEST_BYTES + 1)
    if len(content) > _LARGEST_BYTES:
        raise UsageError(f"{path} is larger than {_LARGEST_BYTES} bytes: no list of outcomes")
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise UsageError(f"{path} is not text: {error}") from None
    if not text:
        raise UsageError(f"{path} is empty: outcomes 0 and 1 expected")
    if text.startswith("["):
        return _from_json(path, text)
    if len(text) > 1 and set(text) <= set("01"):
        return [_OUTCOMES[digit] for digit in text]
    outcomes = []
    for position, word in enumerate(_SEPARATOR.split(text)):
        if word not in _OUTCOMES:
            raise UsageError(f"{path}: outcome {position} must be 0 or 1, got {word[:20]!r}")
        outcomes.append(_OUTCOMES[word])
    return outcomes


def _from_json(path: Path, text: str) -> list[int]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not a JSON list: {error}") from None
    if not values:
        raise UsageError(f"{path} is empty: outcomes 0 and 1 expected")
    for position, value in enumerate(values):
        if type(value) is not int or value not in (0, 1):
            raise UsageError(f"{path}: outcome {position} must be 0 or 1, got {str(value)[:20]}")
    return values
