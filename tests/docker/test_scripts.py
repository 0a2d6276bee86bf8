"""What the containers' scripts say, without a container."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
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


def test_a_wheel_folder_that_cannot_be_read_is_one_clear_line() -> None:
    # Root reads everything, and pytest's own folders are its alone.
    with tempfile.TemporaryDirectory() as open_to_all, tempfile.TemporaryDirectory() as closed:
        Path(open_to_all).chmod(0o755)
        script = shutil.copy(DOCKER / "install_wheels.sh", open_to_all)
        Path(closed).chmod(0o000)
        result = subprocess.run(
            [script, closed, f"{closed}/venv"],
            user=65534 if os.geteuid() == 0 else None,
            capture_output=True,
            text=True,
            check=False,
        )
        Path(closed).chmod(0o700)
    assert (result.returncode, len(result.stderr.splitlines())) == (2, 1)
    assert "can't be read" in result.stderr


@pytest.fixture
def evaluate(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start evaluate.sh with a program in sim-client's place; that program's text."""
    signals = tmp_path / "signals"
    signals.mkdir()
    os.mkfifo(signals / "simulators")
    program = tmp_path / "sim-client"

    def evaluate(words: str, script: Path = DOCKER / "evaluate.sh") -> subprocess.Popen[str]:
        program.write_text(words)
        program.chmod(0o755)
        return subprocess.Popen(
            [script],
            env={
                "PATH": f"{tmp_path}:{os.environ['PATH']}",
                "SIGNALS": str(signals),
                "TASKS": "PickAndPlaceBox",
                "EPISODES": "0:1",
                "WORKERS": "1",
                "ADDRESS": "policy-server:50051",
            },
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return evaluate


@contextlib.contextmanager
def served(signals: Path) -> Iterator[None]:
    """As serve_until_evaluated.sh does for as long as the server lives."""
    with (signals / "serving").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def until_told(begins: str, ends: str, *, status: int) -> str:
    """A program that has no process of its own to be lost, and whose wait no signal can miss."""
    return f"""#!{sys.executable} -I
import signal, sys
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
print({begins!r}, flush=True)
signal.sigwait([signal.SIGTERM])
{ends}
sys.exit({status})
"""


_UNTIL_TOLD = until_told("running", "print('interrupted', file=sys.stderr)", status=130)
_SAVES_WHEN_TOLD = until_told("training", "print('saved')", status=130)


def _status(signals: Path) -> str:
    (file,) = (signals / "exit-statuses").iterdir()
    return file.read_text().strip()


def test_an_evaluation_ends_with_its_server(
    evaluate: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    signals = tmp_path / "signals"
    with served(signals):
        evaluation = evaluate(_UNTIL_TOLD)
        assert evaluation.stdout is not None
        assert evaluation.stdout.readline() == "running\n"
        assert evaluation.poll() is None
    _, said = evaluation.communicate(timeout=60)
    assert said.splitlines() == ["interrupted", "the policy server has ended before the evaluation"]
    assert (evaluation.returncode, _status(signals)) == (1, "1")


def test_an_evaluation_that_is_over_outlives_its_server(
    evaluate: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    signals = tmp_path / "signals"
    # As a program is on its way out: it has had its last verdict, and any signal would end it.
    on_its_way_out = f"""#!{sys.executable} -I
import fcntl, threading
print("over", flush=True)
fcntl.flock(open({str(signals / "serving")!r}), fcntl.LOCK_SH)
threading.Event().wait(0.2)
"""
    with served(signals):
        evaluation = evaluate(on_its_way_out)
        assert evaluation.stdout is not None
        assert evaluation.stdout.readline() == "over\n"
    _, said = evaluation.communicate(timeout=60)
    assert (evaluation.returncode, _status(signals), said) == (0, "0", "")


@pytest.fixture
def train(tmp_path: Path) -> Callable[[Path], subprocess.Popen[str]]:
    """Start a script, train.sh or a changed one, with a stand-in of a trainer."""
    program = tmp_path / "trainer"
    program.write_text(_SAVES_WHEN_TOLD)
    program.chmod(0o755)
    return lambda script: subprocess.Popen(
        [script],
        env={"PATH": f"{tmp_path}:{os.environ['PATH']}", "RECIPE": "smoke"},
        stdout=subprocess.PIPE,
        text=True,
    )


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_training_that_is_stopped_saves_first(
    train: Callable[[Path], subprocess.Popen[str]], number: signal.Signals
) -> None:
    training = train(DOCKER / "train.sh")
    assert training.stdout is not None
    assert training.stdout.readline() == "training\n"
    training.send_signal(number)
    said, _ = training.communicate(timeout=60)
    assert (training.returncode, said) == (130, "saved\n")


def slow_to_wait_again(script: str, told: str, folder: Path) -> Path:
    """A copy of a script that after telling its program to stop looks again once that is gone."""
    text = (DOCKER / script).read_text()
    assert text.count(told) == 1
    gone = told.replace("kill -TERM", "kill -0")
    copy = folder / script
    copy.write_text(text.replace(told, f"{told} && while {gone} 2>/dev/null; do :; done"))
    copy.chmod(0o755)
    return copy


def test_a_training_that_ends_before_anyone_waits_again_still_says_how(
    train: Callable[[Path], subprocess.Popen[str]], tmp_path: Path
) -> None:
    training = train(slow_to_wait_again("train.sh", 'kill -TERM "$!"', tmp_path))
    assert training.stdout is not None
    assert training.stdout.readline() == "training\n"
    training.send_signal(signal.SIGTERM)
    said, _ = training.communicate(timeout=60)
    assert (training.returncode, said) == (130, "saved\n")


def test_an_evaluation_that_ends_before_anyone_waits_again_still_says_how(
    evaluate: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    script = slow_to_wait_again("evaluate.sh", 'kill -TERM "$evaluation"', tmp_path)
    with served(tmp_path / "signals"):
        evaluation = evaluate(_UNTIL_TOLD, script=script)
        assert evaluation.stdout is not None
        assert evaluation.stdout.readline() == "running\n"
        evaluation.send_signal(signal.SIGTERM)
        evaluation.communicate(timeout=60)
    assert (evaluation.returncode, _status(tmp_path / "signals")) == (130, "130")


def with_signal(script: str, *, before: str, folder: Path) -> Path:
    """A copy of a script that sends itself SIGTERM right before a line that begins so."""
    text = (DOCKER / script).read_text()
    assert text.count(f"\n{before}") == 1
    copy = folder / script
    copy.write_text(text.replace(f"\n{before}", f"\nkill -TERM $$\n{before}"))
    copy.chmod(0o755)
    return copy


@pytest.mark.parametrize("before", ["trainer train", "training=$!", "num_told_before="])
def test_a_signal_between_two_lines_leaves_no_training_behind(
    train: Callable[[Path], subprocess.Popen[str]], tmp_path: Path, before: str
) -> None:
    training = train(with_signal("train.sh", before=before, folder=tmp_path))
    # It ends once nobody holds its output any more.
    training.communicate(timeout=60)
    assert training.returncode in {130, 143}


@pytest.mark.parametrize("before", ["sim-client evaluate", "evaluation=$!", "watch=$!"])
def test_a_signal_between_two_lines_leaves_no_evaluation_behind(
    evaluate: Callable[..., subprocess.Popen[str]], tmp_path: Path, before: str
) -> None:
    with served(tmp_path / "signals"):
        script = with_signal("evaluate.sh", before=before, folder=tmp_path)
        evaluation = evaluate(_UNTIL_TOLD, script=script)
        evaluation.communicate(timeout=60)
    assert evaluation.returncode in {130, 143}
    assert _status(tmp_path / "signals") == str(evaluation.returncode)


@pytest.mark.parametrize("code", [0, 1, 2])
def test_an_evaluation_that_ends_by_itself_says_how(
    evaluate: Callable[[str], subprocess.Popen[str]], tmp_path: Path, code: int
) -> None:
    with served(tmp_path / "signals"):
        evaluation = evaluate(f"#!/bin/sh\nexit {code}\n")
        _, said = evaluation.communicate(timeout=60)
    assert (evaluation.returncode, _status(tmp_path / "signals"), said) == (code, str(code), "")


def test_an_evaluation_that_is_stopped_says_so(
    evaluate: Callable[[str], subprocess.Popen[str]], tmp_path: Path
) -> None:
    with served(tmp_path / "signals"):
        evaluation = evaluate(_UNTIL_TOLD)
        assert evaluation.stdout is not None
        assert evaluation.stdout.readline() == "running\n"
        evaluation.terminate()
        _, said = evaluation.communicate(timeout=60)
    assert (evaluation.returncode, _status(tmp_path / "signals")) == (130, "130")
    assert said == "interrupted\n"


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
