"""Markdown and its front matter around text that anybody may have written.

What comes from a checkpoint is shown as the characters that it is: it makes no link, no HTML, no
heading, no further row or field.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import yaml

from policy_interface.printable import printable

# Enough for whatever is told honestly; a card is no place for a megabyte.
_MAX_CHARACTERS = 300
_MAX_ITEMS = 50

_SPECIAL = re.compile(r"[\\`*_\[\]|~$!#@]|(?<=:)/|(?<=www)\.", re.IGNORECASE)


def escaped(text: str) -> str:
    """Text as it is, anywhere in a line but at its beginning."""
    shown = _shown(text).replace("&", "&amp;").replace("<", "&lt;")
    return _SPECIAL.sub(lambda found: "\\" + found[0], shown)


def code(text: str) -> str:
    """A name or a number in a code span, where it can stand in one."""
    shown = _shown(text)
    return escaped(text) if not shown.strip() or {"`", "|"} & set(shown) else f"`{shown}`"


def in_words(value: object) -> str:
    """A value of JSON, escaped; None is `unknown`."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, list | tuple):
        more = f" and {len(value) - _MAX_ITEMS} more" if len(value) > _MAX_ITEMS else ""
        return ", ".join(_leaf(each) for each in value[:_MAX_ITEMS]) + more
    if isinstance(value, Mapping):
        pairs = list(value.items())[:_MAX_ITEMS]
        return ", ".join(f"{escaped(str(key))} {_leaf(each)}" for key, each in pairs)
    return escaped(str(value))


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Cells are Markdown already; the head may be of empty ones."""
    lines = [head, ["---"] * len(head), *rows]
    return [f"| {' | '.join(cells)} |" for cells in lines]


def front_matter(fields: Mapping[str, Any]) -> list[str]:
    """What a hub reads; text is shown on one line, so that none of it ends the block."""
    written = yaml.safe_dump(
        _plain(fields), sort_keys=False, allow_unicode=True, width=2**31, default_flow_style=False
    )
    return ["---", *written.splitlines(), "---"]


def _shown(text: str) -> str:
    cut = text if len(text) <= _MAX_CHARACTERS else text[: _MAX_CHARACTERS - 1] + "…"
    return printable(cut)


def _leaf(value: object) -> str:
    return escaped(str(value)) if isinstance(value, list | Mapping) else in_words(value)


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return _shown(value)
    if isinstance(value, Mapping):
        return {key: _plain(each) for key, each in value.items()}
    return [_plain(each) for each in value] if isinstance(value, list | tuple) else value
