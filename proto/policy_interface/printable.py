"""Text of others, made fit for a terminal, which obeys what it is shown."""

from __future__ import annotations


def printable(text: str) -> str:
    """The text with its control characters, line breaks and invisible marks escaped."""
    if text.isprintable():
        return text
    return "".join(
        each if each.isprintable() else each.encode("unicode_escape").decode() for each in text
    )
