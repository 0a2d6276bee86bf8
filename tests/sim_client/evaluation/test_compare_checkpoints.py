"""Comparisons of checkpoints, each served for as long as its study lasts."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest

from sim_client.compare import own_server
from step_analysis.study.folder import read_study

Compare = Callable[..., int]


def _program(folder: Path, text: str) -> None:
    folder.mkdir()
    program = folder / "policy-server"
    program.write_text(f"#!{sys.executable}\n{text}")
    program.chmod(0o755)


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    checkpoint = tmp_path / "run" / "final"
    checkpoint.mkdir(parents=True)
    return checkpoint


@pytest.fixture
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where programs are found, and not beside Python."""
    monkeypatch.setattr("sys.executable", str(tmp_path / "nowhere" / "python"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    return tmp_path / "bin"


@pytest.mark.usefixtures("elsewhere")
def test_a_checkpoint_without_a_policy_server_is_told(
    compare: Compare, served: Any, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compare(str(checkpoint), served.address) == 2
    assert "policy-server is not installed here" in capsys.readouterr().err


def test_a_checkpoint_that_cannot_be_served_is_told_in_the_servers_words(
    compare: Compare,
    served: Any,
    checkpoint: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    _program(tmp_path / "bin", "import sys; sys.exit('policy-server: no weights here')")
    monkeypatch.setattr(own_server, "PROGRAM", str(tmp_path / "bin" / "policy-server"))
    assert compare(str(checkpoint), served.address) == 1
    assert "exit code 1 before it was ready: policy-server: no weights" in capsys.readouterr().err


def test_a_checkpoint_is_served_for_as_long_as_the_comparison_lasts(
    compare: Compare,
    other: Any,
    checkpoint: Path,
    study: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By the program itself, but for the weights: the stand-in puts a policy without in place."""
    told = tmp_path / "told"
    real = Path(sys.executable).with_name("policy-server")
    _program(
        tmp_path / "bin",
        "import json, os, pathlib, sys\n"
        f"pathlib.Path({str(told)!r}).write_text(json.dumps([os.getpid(), *sys.argv[1:]]))\n"
        f"words = ['policy0=hold' if '=' in word else word for word in sys.argv[1:]]\n"
        f"os.execv({str(real)!r}, [{str(real)!r}, *words])\n",
    )
    monkeypatch.setattr(own_server, "PROGRAM", str(tmp_path / "bin" / "policy-server"))
    assert compare(str(checkpoint), other.address, server_options="--max-batch-size 4") == 0
    pid, *arguments = json.loads(told.read_text())
    assert arguments[:2] == ["serve", f"policy0={checkpoint}"]
    assert arguments[2:4] == ["--address", "127.0.0.1:0"]
    assert arguments[4:] == ["--while-input-open", "--max-batch-size", "4"]
    assert not psutil.pid_exists(pid)
    (verdict,) = read_study(study).standing().comparisons
    assert (verdict.winner, verdict.loser) == ("final", "other")


@pytest.mark.slow
def test_a_server_of_our_own_ends_when_we_are_killed(tmp_path: Path) -> None:
    """The program itself, by a policy without weights."""
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import pathlib, sys, threading\n"
            "from sim_client.compare.own_server import own_server\n"
            f"with own_server(['hold'], options=[], log=pathlib.Path({str(tmp_path / 'log')!r})):\n"
            "    print('ready', flush=True)\n"
            "    threading.Event().wait()\n",
        ],
        stdout=subprocess.PIPE,
    )
    assert starter.stdout is not None
    with starter.stdout:
        assert starter.stdout.readline() == b"ready\n"
        (server,) = psutil.Process(starter.pid).children()
        starter.kill()
        starter.wait()
        gone, alive = psutil.wait_procs([server], timeout=60)
        for process in alive:
            process.kill()
    assert gone == [server]
