"""`trainer data stats`: a table for people, a file for everything else, and no torch."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from trainer.command_line import main
from trainer.data.statistics.field_statistics import DatasetStatistics


def test_a_table_and_a_file(
    demonstration_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "statistics.json"
    words = ["data", "stats", str(demonstration_folder), "--processes", "1"]
    assert main([*words, "--output", str(output), "--past", "1", "--future", "3"]) == 0
    table = capsys.readouterr().out
    assert "10 episodes, 140 control steps" in table
    assert "action/width_m/right::panda_hand" in table
    statistics = DatasetStatistics.load(output)
    assert (statistics.past, statistics.future) == (1, 3)
    relative = "action/pose/right::panda relative to actual/pose/right::panda"
    assert len(statistics.fields[relative].per_step) == 5
    assert main([*words, "--json", "--past", "1", "--future", "3"]) == 0
    assert json.loads(capsys.readouterr().out) == json.loads(output.read_text())


def test_bad_usage_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["data", "stats", str(tmp_path / "nowhere")]) == 2
    assert "nowhere: no such file or folder" in capsys.readouterr().err
    assert main(["data", "stats", str(tmp_path), "--processes", "0"]) == 2
    assert "expected at least 1, got 0" in capsys.readouterr().err


def test_statistics_need_no_torch() -> None:
    code = "import sys, trainer.data.verbs.stats; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
