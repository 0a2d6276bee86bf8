"""Whatever the parser draws, the user reads one line, and help stays help."""

import sys
from collections.abc import Callable
from dataclasses import dataclass

import pytest
import tyro

import policy_interface.usage
import step_analysis.usage

MODULES = (policy_interface.usage, step_analysis.usage)


@dataclass(frozen=True, kw_only=True)
class Options:
    address: str
    """HOST:PORT to listen on, which is a text long enough to be wrapped in any terminal."""


def parser_of(*arguments: str) -> Callable[[], Options]:
    return lambda: tyro.cli(Options, prog="program", args=list(arguments))


@pytest.mark.parametrize("usage", MODULES)
@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (("--adress", "a", "--address", "b"), "Perhaps you meant: --address STR HOST:PORT"),
        ((), "--address STR HOST:PORT to listen on, which is a text long enough to be wrapped"),
    ],
)
def test_a_complaint_is_one_line_with_the_name_of_the_option(usage, arguments, told) -> None:
    with pytest.raises(usage.UsageError) as raised:
        usage.parse_or_say_why(parser_of(*arguments))
    text = str(raised.value)
    assert told in text
    assert "\n" not in text
    assert not set(text) & set("│╭╮╰╯─")
    assert "full helptext" not in text


@pytest.mark.parametrize("usage", MODULES)
def test_good_arguments_and_help_go_through(usage, capsys) -> None:
    assert usage.parse_or_say_why(parser_of("--address", "b")) == Options(address="b")
    with pytest.raises(SystemExit) as stopped:
        usage.parse_or_say_why(parser_of("--help"))
    assert not stopped.value.code
    assert "--address" in capsys.readouterr().out


@pytest.mark.parametrize("usage", MODULES)
def test_a_parser_that_dies_silently_is_still_an_error(usage) -> None:
    with pytest.raises(usage.UsageError):
        usage.parse_or_say_why(lambda: sys.exit(2))
