"""An engine that can't be had says so in one line; the rest is tried with a real one."""

from pathlib import Path

import pytest

from sim_client.evaluation.config import EvaluationConfig
from sim_client.evaluation.docker_options import DockerOptions
from sim_client.evaluation.errors import UsageError
from sim_client.evaluation.runner import run

pytest.importorskip("docker.errors")


def evaluate(output: Path) -> int:
    return run(EvaluationConfig(tasks=("PickAndPlaceBox",), executor="docker", output=output))


def test_no_engine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'nobody.sock'}")
    assert evaluate(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "--executor docker: no Docker engine answers; start it, or use --executor local" in line


def test_no_permission(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # The tests may run as root, who is refused nothing.
    def refuse(*arguments: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setenv("DOCKER_HOST", f"unix://{tmp_path / 'engine.sock'}")
    monkeypatch.setattr("socket.socket.connect", refuse)
    assert evaluate(tmp_path) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "this user may not use the Docker engine; join the group docker" in line


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"memory": "lots"}, "--docker.memory 'lots': expected a number with b, k, m or g"),
        ({"memory": "1m"}, "--docker.memory: expected at least 6m"),
        ({"cpus": 0.0}, "--docker.cpus: expected 0.01 or more"),
        ({"image": "--privileged"}, "--docker.image '--privileged': expected NAME"),
    ],
)
def test_bad_options_name_themselves(options: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        DockerOptions(**options)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        ({"docker": DockerOptions(cpus=2.0)}, r"--docker\.\*: only with --executor docker"),
        ({"executor": "docker", "meshcat_port": 7000}, "--meshcat-port: not with"),
        ({"executor": "docker", "simulator": "lbm-eval"}, "not with --simulator lbm-eval"),
    ],
)
def test_what_does_not_go_together_is_refused(options: dict[str, str], problem: str) -> None:
    with pytest.raises(UsageError, match=problem):
        EvaluationConfig(tasks=("PickAndPlaceBox",), **options)  # type: ignore[arg-type]
