"""Bad usage of a program, told in one line.

A command-line parser draws a box of many lines around what it refuses, which neither a log nor a
script reads well. This knows no parser: it takes one as a callable, so that a robot needs none.
"""

from __future__ import annotations

import contextlib
import difflib
import io
from collections.abc import Callable, Sequence
from typing import TypeVar

_Parsed = TypeVar("_Parsed")

_RULE = "─"
_FRAME = "│╭╮╰╯─ "
_POINTER_TO_HELP = "For full helptext"


class UsageError(ValueError):
    """Arguments that a program does not take; the text is one line."""


def require_verb(verb: str, verbs: Sequence[str], *, of: str = "") -> None:
    """Raises UsageError for one that there is not. of: what stands before it, such as `data`."""
    if verb in verbs:
        return
    close = difflib.get_close_matches(verb, verbs, n=1)
    hint = f" (did you mean {close[0]!r}?)" if close else ""
    where = f"{of}: " if of else ""
    raise UsageError(f"{where}unknown verb {verb!r}{hint}; there are {', '.join(verbs)}")


def parse_or_say_why(parse: Callable[[], _Parsed]) -> _Parsed:
    """What `parse` returns. Raises UsageError where it complains on stderr and exits with an error.

    An exit without an error, as after `--help`, goes through.
    """
    complaint = io.StringIO()
    try:
        with contextlib.redirect_stderr(complaint):
            return parse()
    except SystemExit as stopped:
        if not stopped.code:
            raise
        raise UsageError(one_line(complaint.getvalue())) from stopped


def one_line(box: str) -> str:
    """The text inside a box, without its frame, its title and its pointer to --help."""
    blocks: list[list[str]] = [[]]
    for framed in box.splitlines():
        if framed.startswith("╭"):
            continue
        line = framed.strip(_FRAME)
        if line:
            blocks[-1].append(line)
        elif _RULE in framed:
            blocks.append([])
    told = (" ".join(block) for block in blocks)
    return "; ".join(text for text in told if text and not text.startswith(_POINTER_TO_HELP))
