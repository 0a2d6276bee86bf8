"""What the containers' scripts say, without a container."""

from __future__ import annotations

import json
import os
import re
import subprocess
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
DOCKER = ROOT / "docker"


def install_wheels(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [DOCKER / "install_wheels.sh", folder, folder / "venv"],
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_wheel_folder_that_is_no_good_is_one_clear_line(tmp_path: Path) -> None:
    missing = install_wheels(tmp_path / "nowhere")
    empty = install_wheels(tmp_path)
    (tmp_path / "robot_gym-1.1.0-py3-none-any.whl").touch()
    incomplete = install_wheels(tmp_path)
    for result, complaint in (
        (missing, "no such folder"),
        (empty, "no robot_gym-*.whl"),
        (incomplete, "no lbm_eval-*.whl"),
    ):
        assert result.returncode == 2
        (line,) = result.stderr.splitlines()
        assert f"LBM Eval's wheels: {complaint}: expected robot_gym, lbm_eval" in line


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_wheel_folder_that_cannot_be_read_is_one_clear_line(tmp_path: Path) -> None:
    tmp_path.chmod(0o000)
    result = install_wheels(tmp_path)
    tmp_path.chmod(0o700)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "can't be read" in result.stderr


def test_what_is_watched_are_metrics_that_the_server_has() -> None:
    told = (ROOT / "docs" / "operations.md").read_text("utf-8")
    known = set(re.findall(r"`(policy_server_\w+)", told))
    suffixes = re.compile(r"_(bucket|sum|count)$")
    monitoring = DOCKER / "monitoring"
    dashboard = json.loads(
        (monitoring / "grafana" / "dashboards" / "policy_server.json").read_text("utf-8")
    )
    alerts = yaml.safe_load((monitoring / "alerts.yaml").read_text("utf-8"))
    asked = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    asked += [rule["expr"] for group in alerts["groups"] for rule in group["rules"]]
    assert len(asked) > 10
    for expression in asked:
        names = set(re.findall(r"policy_server_\w+", expression))
        assert names
        assert {suffixes.sub("", name) for name in names} <= known, expression
    scraped = yaml.safe_load((monitoring / "prometheus.yaml").read_text("utf-8"))
    (job,) = scraped["scrape_configs"]
    assert job["static_configs"] == [{"targets": ["policy-server:9464"]}]


def test_every_script_is_one_that_sh_reads() -> None:
    for script in DOCKER.glob("*.sh"):
        assert os.access(script, os.X_OK), script
        shell = script.read_text("utf-8").partition("\n")[0].removeprefix("#!")
        subprocess.run([shell, "-n", script], check=True)
