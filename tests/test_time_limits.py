"""No test of this project can hang for ever, not even one that has failed."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[1]

FAILS_AND_THEN_HANGS = """
import threading

import pytest


@pytest.fixture
def server():
    yield
    threading.Event().wait()


def test_fails(server):
    assert False
"""


def test_a_failed_test_whose_end_hangs_is_ended(tmp_path: Path) -> None:
    test = tmp_path / "test_hangs.py"
    test.write_text(FAILS_AND_THEN_HANGS)
    options = ["-p", "tests.conftest", "-p", "no:xdist", "--rootdir", str(tmp_path)]
    options += ["-c", str(PROJECT / "pyproject.toml"), "-o", "faulthandler_timeout=1"]
    process = subprocess.run(
        [sys.executable, "-m", "pytest", *options, str(test)],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert process.returncode == 1
    assert "Timeout (0:00:01)!" in process.stderr
    assert f'File "{test}", line 10 in server' in process.stderr
