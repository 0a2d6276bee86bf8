"""A line an event, whatever was sent to be logged."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from policy_server import logs

_LOGGER = logging.getLogger("policy_server.tests")

_HOSTILE = [
    "\n2026-01-01T00:00:00.000Z ERROR policy_server: forged",
    "\r\n",
    "\x1b[2J\x1b]0;title\x07",
    "\u2028\u2029\x85\x0b\x0c\x1c",
    "\u202egnp.exe",
    "\x7f\x9b31m",
    "\ud800",
    'a" session="other',
    "a session=other",
    "\x00",
]

_same_fixture = settings(suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(autouse=True)
def _restored() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = list(root.handlers), root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


@pytest.fixture
def logged() -> Callable[..., str]:
    def log(
        log_format: logs.LogFormat, emit: Callable[[], None], level: logs.Level = "info"
    ) -> str:
        stream = io.StringIO()
        # pytest's handlers would put into its report what no process can send to another.
        root = logging.getLogger()
        root.handlers[:] = [h for h in root.handlers if type(h).__module__ != "_pytest.logging"]
        logs.configure(log_format, level, stream=stream)
        emit()
        return stream.getvalue()

    return log


def _has_control_characters(line: str) -> bool:
    return not line.removesuffix("\n").isprintable()


def test_text_says_whose_event_it_is(logged) -> None:
    line = logged(
        "text",
        lambda: _LOGGER.warning(
            "refused %s",
            "PolicyStep",
            extra={"session": "1b-2", "code": "ABORTED", "policy": "a b"},
        ),
    )
    time, rest = line.split(" ", 1)
    assert rest == (
        'WARNING policy_server.tests session=1b-2 code=ABORTED policy="a b": refused PolicyStep\n'
    )
    assert abs(datetime.fromisoformat(time) - datetime.now(UTC)) < timedelta(minutes=1)


def test_json_is_one_object_a_line_with_what_came_as_extra(logged) -> None:
    line = logged(
        "json",
        lambda: _LOGGER.info(
            "step %d",
            3,
            extra={
                "session": "1b-2",
                "control_step": 3,
                "ratio": float("nan"),
                "client": None,
                "policy": "",
                "path": {1},
                "level": 9,
            },
        ),
    )
    event = json.loads(line)
    time = datetime.fromisoformat(event.pop("time"))
    assert time.utcoffset() == timedelta(0)
    assert abs(time - datetime.now(UTC)) < timedelta(minutes=1)
    assert event == {
        "level": "info",
        "logger": "policy_server.tests",
        "message": "step 3",
        "session": "1b-2",
        "control_step": 3,
        "ratio": "nan",
        "path": "{1}",
        "level_": 9,
    }


@_same_fixture
@given(st.one_of(st.sampled_from(_HOSTILE), st.text()))
@pytest.mark.parametrize("log_format", ["text", "json"])
def test_nothing_that_is_sent_breaks_a_line(logged, log_format, text) -> None:
    written = logged(log_format, lambda: _LOGGER.error("got %s", text, extra={"session": text}))
    assert written.endswith("\n")
    assert written.count("\n") == len(written.splitlines()) == 1
    assert not _has_control_characters(written)
    if log_format == "json":
        event = json.loads(written)
        assert (event["message"], event.get("session", "")) == (f"got {text}", text)


def test_a_value_cannot_pass_for_a_field(logged) -> None:
    for value in ("x code=OK", 'x" code="OK'):
        line = logged("text", lambda value=value: _LOGGER.info("m", extra={"session": value}))
        quoted = value.replace('"', '\\"')
        assert f' session="{quoted}": m' in line


@pytest.mark.parametrize("hostile", _HOSTILE)
def test_no_line_of_a_traceback_can_pass_for_an_event(logged, hostile) -> None:
    def fail() -> None:
        try:
            raise ValueError(hostile)
        except ValueError:
            _LOGGER.exception("the policy failed")

    first, *others = logged("text", fail).removesuffix("\n").split("\n")
    assert first.endswith("ERROR policy_server.tests: the policy failed")
    assert others[0] == "    Traceback (most recent call last):"
    assert all(line.startswith("    ") and line.isprintable() for line in others)
    (line,) = logged("json", fail).splitlines()
    assert hostile in json.loads(line)["exception"]


def test_configuring_again_replaces_ours_and_leaves_others(logged) -> None:
    other = logging.NullHandler()
    logging.getLogger().addHandler(other)
    stream = io.StringIO()
    logs.configure("json", stream=stream)
    written = logged("text", lambda: _LOGGER.debug("seen"), level="debug")
    assert written.count("seen") == 1
    assert stream.getvalue() == ""
    assert other in logging.getLogger().handlers


def test_what_is_below_the_level_is_not_said(logged) -> None:
    assert logged("text", lambda: _LOGGER.info("m"), level="warning") == ""


@pytest.mark.parametrize("options", [{"format": "xml"}, {"level": "loud"}])
def test_an_unknown_format_or_level_is_refused(options) -> None:
    with pytest.raises(ValueError, match="expected one of .*, got"):
        logs.configure(**options)
