"""The list that an image installs first: one extra, and nothing of another."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def requirements(*extras: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "docker/requirements.py", *extras],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


def names(*extras: str) -> set[str]:
    return {
        match[0]
        for line in requirements(*extras).stdout.splitlines()
        if (match := re.match(r"[\w-]+", line))
    }


@pytest.mark.parametrize(
    ("extra", "needed", "foreign"),
    [
        ("serve", {"grpcio", "torch"}, {"drake", "pandas", "pytest"}),
        ("sim", {"grpcio", "drake"}, {"torch", "pandas", "pytest"}),
        ("analysis", {"numpy", "scipy"}, {"torch", "drake", "pytest"}),
        ("build-system", {"hatchling"}, {"torch", "drake", "numpy"}),
    ],
)
def test_an_image_gets_its_own_extra_and_no_other(
    extra: str, needed: set[str], foreign: set[str]
) -> None:
    listed = names(extra)
    assert needed <= listed
    assert not foreign & listed


def test_an_unknown_extra_is_refused_with_the_known_ones() -> None:
    result = requirements("simulator")
    assert result.returncode != 0
    assert "no extra 'simulator'" in result.stderr
    assert "'sim'" in result.stderr


def test_each_image_installs_exactly_one_extra() -> None:
    installed = {
        path.name: re.findall(r"requirements\.py (\S+) > extra\.txt", path.read_text("utf-8"))
        for path in (ROOT / "docker").glob("*.Dockerfile")
    }
    assert installed == {
        "policy-server.Dockerfile": ["serve"],
        "report.Dockerfile": ["analysis"],
        "simulator.Dockerfile": ["sim"],
    }
