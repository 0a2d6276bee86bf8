"""No test of this project can hang for ever, not even one that has failed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.prepared_process import with_ctrl_c_ignored

PROJECT = Path(__file__).parents[1]

FAILS_AND_THEN_HANGS = """
import threading

import pytest

from tests import conftest

conftest._END_TIMEOUT_S = 4


@pytest.fixture
def server():
    yield
    threading.Event().wait()


def test_fails(server):
    assert False
"""

INTERRUPTS = """
import signal
import subprocess
import sys

import pytest


def test_ctrl_c_is_felt():
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)
    code = "import signal; signal.raise_signal(signal.SIGINT)"
    child = subprocess.run([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    assert child.returncode == -signal.SIGINT
"""

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Run a file of tests under this project's settings, in a process of its own."""

    def run(
        text: str, started: Callable[[Sequence[str]], list[str]] = list
    ) -> subprocess.CompletedProcess[str]:
        test = tmp_path / "test_it.py"
        test.write_text(text)
        options = ["-p", "tests.conftest", "-p", "no:xdist", "--rootdir", str(tmp_path)]
        options += ["-c", str(PROJECT / "pyproject.toml")]
        return subprocess.run(
            started([sys.executable, "-m", "pytest", *options, str(test)]),
            cwd=PROJECT,
            capture_output=True,
            text=True,
            timeout=240,
        )

    return run


@pytest.mark.slow
def test_a_failed_test_whose_end_hangs_is_ended(run: Run, tmp_path: Path) -> None:
    process = run(FAILS_AND_THEN_HANGS)
    assert process.returncode == 1
    # The test's own clock is a longer one: what was ended is its fixture's end.
    assert "Timeout (0:00:04)!" in process.stderr
    assert f'File "{tmp_path / "test_it.py"}", line 14 in server' in process.stderr


def test_ctrl_c_is_felt_where_tests_run_in_the_background(run: Run) -> None:
    process = run(INTERRUPTS, started=with_ctrl_c_ignored)
    assert process.returncode == 0, process.stdout
