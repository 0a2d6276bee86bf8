"""Programs that run beside another one: found, begun, listened to, ended."""

from __future__ import annotations

import io
import subprocess
import sys
from pathlib import Path

import pytest

from policy_interface.companion import (
    begin_companion,
    end_companion,
    find_program,
    last_line,
    last_line_of,
    ready_address,
)

_SERVE = "import sys; print('serving at 127.0.0.1:7', flush=True); print('waits'); sys.stdin.read()"


def test_one_that_serves_says_where_and_is_ended(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = begin_companion(
            [sys.executable, "-c", _SERVE], output=subprocess.PIPE, errors=log
        )
    assert process.stdout is not None
    assert ready_address(process.stdout) == "127.0.0.1:7"
    assert process.poll() is None
    end_companion(process)
    assert process.returncode == -15
    assert process.stdin is not None
    assert process.stdin.closed
    assert process.stdout.closed


def test_one_whose_input_ends_can_know_that_we_are_gone(tmp_path: Path) -> None:
    with (tmp_path / "log").open("wb") as log:
        process = begin_companion([sys.executable, "-c", _SERVE], output=log, errors=log)
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait() == 0
    assert last_line_of(tmp_path / "log") == "waits"


@pytest.mark.parametrize(
    ("said", "last"),
    [
        (b"", "it said nothing"),
        (b"\n \n", "it said nothing"),
        (b"one\n two \n\n", "two"),
        (b"\xff\n", "\N{REPLACEMENT CHARACTER}"),
    ],
)
def test_the_last_words_are_the_last_line_that_says_something(said: bytes, last: str) -> None:
    assert last_line(said) == last


def test_words_from_before_it_began_are_not_its_own(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"an earlier one failed\n")
    begin = log.stat().st_size
    assert last_line_of(log, begin) == "it said nothing"
    with log.open("ab") as file:
        file.write(b"x" * 100_000 + b"\nno checkpoint\n")
    assert last_line_of(log, begin) == "no checkpoint"


def test_a_server_that_never_serves_has_no_address() -> None:
    assert ready_address(io.BytesIO(b"loading\nno such checkpoint\n")) is None


def test_a_program_of_this_environment_comes_first() -> None:
    assert find_program(Path(sys.executable).name) == str(
        Path(sys.executable).parent / Path(sys.executable).name
    )
    assert find_program("no-such-program-anywhere") is None
