"""The benchmark of the trainer runs, and prints what a program can read."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

_BENCHMARK = Path(__file__).parents[2] / "benchmarks" / "training.py"


@pytest.mark.slow
def test_it_prints_one_line_of_json() -> None:
    options = ["--tiny", "--only", "language_11m"]
    done = subprocess.run(
        [sys.executable, str(_BENCHMARK), *options],
        capture_output=True,
        text=True,
        timeout=600,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    (line,) = done.stdout.splitlines()
    result = json.loads(line)
    assert result.keys() == {"torch", "device", "num_threads", "language_11m"}
    assert (result["device"], result["num_threads"]) == ("cpu", 1)
    measured = result["language_11m"]
    assert (measured["samples"], measured["length"]) == (1, 64)
    assert measured["tokens_per_cpu_s"].keys() == {"ours", "llama"}
    assert all(rate > 0 for rate in measured["tokens_per_cpu_s"].values())
    assert measured["times_faster_than"]["llama"] > 0


def test_a_misspelt_part_is_told() -> None:
    done = subprocess.run(
        [sys.executable, str(_BENCHMARK), "--only", "langauge_11m"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == (
        "training.py: --only: no part 'langauge_11m' (did you mean 'language_11m'?); on cpu there "
        "are language_11m, language_100m, action_repeats\n"
    )
