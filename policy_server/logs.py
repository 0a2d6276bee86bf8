"""The server's log: one event a line, as text for people or as JSON for machines.

What an event is about goes into `extra`, and both formats show it:

    logger.info("episode begun", extra={"session": session, "policy": name})

Much of what is logged was sent by somebody else. Nothing of it can end a line, forge a field or
speak to a terminal: whatever is not printable is escaped.
"""

from __future__ import annotations

import json
import logging
import math
import sys
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, Literal, TextIO, get_args

from policy_interface.printable import printable

LogFormat = Literal["text", "json"]
Level = Literal["debug", "info", "warning", "error"]

# What a record has of its own; the rest came as `extra`.
_OWN = frozenset({*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"})

# A field for each line of the JSON, which an extra of the same name must not replace.
_RESERVED = frozenset({"time", "level", "logger", "message", "exception"})


def configure(
    format: LogFormat = "text",  # noqa: A002
    level: Level = "info",
    *,
    stream: TextIO | None = None,
) -> None:
    """Log everything of this process from `level` on, to stderr. Again replaces the former."""
    for name, value, known in (
        ("format", format, get_args(LogFormat)),
        ("level", level, get_args(Level)),
    ):
        if value not in known:
            raise ValueError(f"log {name}: expected one of {', '.join(known)}, got {value!r}")
    handler = _Handler(stream)
    handler.setFormatter(JsonFormatter() if format == "json" else TextFormatter())
    root = logging.getLogger()
    for former in [each for each in root.handlers if isinstance(each, _Handler)]:
        root.removeHandler(former)
    root.addHandler(handler)
    root.setLevel(level.upper())


class _Handler(logging.StreamHandler[TextIO]):
    """Ours, as distinct from those that others added.

    To stderr, whatever that is when something is logged, where no stream is named.
    """

    def __init__(self, stream: TextIO | None) -> None:
        logging.Handler.__init__(self)
        self._stream = stream

    @property
    def stream(self) -> TextIO:  # pyright: ignore[reportIncompatibleVariableOverride]
        return sys.stderr if self._stream is None else self._stream


class TextFormatter(logging.Formatter):
    """TIME LEVEL LOGGER session=ID code=CODE: message

    The lines of a traceback are set in, so that none can pass for an event.
    """

    def format(self, record: logging.LogRecord) -> str:
        fields = "".join(f" {name}={_as_text(value)}" for name, value in _extras(record))
        line = (
            f"{_time(record)} {record.levelname} {record.name}{fields}: "
            f"{printable(record.getMessage())}"
        )
        trace = (_trace(self, record) or "").split("\n")
        return "\n".join([line, *(f"    {printable(each)}" for each in trace if each)])


class JsonFormatter(logging.Formatter):
    """One object a line: time, level, logger, message, and what came as `extra`."""

    def format(self, record: logging.LogRecord) -> str:
        event: dict[str, Any] = {
            "time": _time(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        trace = _trace(self, record)
        if trace is not None:
            event["exception"] = trace
        for name, value in _extras(record):
            event[f"{name}_" if name in _RESERVED else name] = _as_json(value)
        # In ASCII, so that no reader takes U+2028 for the end of a line.
        return json.dumps(event, ensure_ascii=True, allow_nan=False).replace("\x7f", "\\u007f")


def _time(record: logging.LogRecord) -> str:
    """RFC 3339, UTC, in milliseconds."""
    at = datetime.fromtimestamp(record.created, UTC)
    return at.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _extras(record: logging.LogRecord) -> Iterator[tuple[str, Any]]:
    """What came as `extra`, but for what is None or empty: an event of no session has none."""
    values: Mapping[str, Any] = vars(record)
    for name, value in values.items():
        if name not in _OWN and value is not None and value != "":
            yield name, value


def _trace(formatter: logging.Formatter, record: logging.LogRecord) -> str | None:
    parts = [record.exc_text] if record.exc_text else []
    if record.exc_info and not parts:
        parts.append(formatter.formatException(record.exc_info))
    if record.stack_info:
        parts.append(formatter.formatStack(record.stack_info))
    return "\n".join(parts) or None


def _as_text(value: Any) -> str:
    text = printable(str(value))
    if not set(text) & set(' ="'):
        return text
    # It could be taken for more than one field.
    return '"' + text.replace('"', '\\"') + '"'


def _as_json(value: Any) -> Any:
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
