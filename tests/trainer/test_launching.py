"""The ranks that `trainer train --num-processes` begins, as programs of a few lines."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest

from trainer import launching
from trainer.command_line import main
from trainer.launching import RanksEndedError, is_first_around, run_ranks


def program(text: str) -> list[str]:
    """rank: which it is."""
    return [sys.executable, "-c", f"import os, signal, sys\nrank = os.environ['RANK']\n{text}"]


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_ranks_know_of_one_another_and_nobody_else_does(tmp_path: Path) -> None:
    note = f"""
import json, pathlib
tcp = [pathlib.Path('/proc/net', name) for name in ('tcp', 'tcp6')]
listens = [line.split()[1] for each in tcp if each.exists()
           for line in each.read_text().splitlines()[1:] if line.split()[3] == '0A']
pathlib.Path({str(tmp_path)!r}, rank).write_text(json.dumps([dict(os.environ), listens]))
"""
    run_ranks(program(note), 3)
    for rank in range(3):
        environment, listens = json.loads((tmp_path / str(rank)).read_text())
        assert environment["RANK"] == environment["LOCAL_RANK"] == str(rank)
        assert environment["WORLD_SIZE"] == environment["LOCAL_WORLD_SIZE"] == "3"
        assert environment["MASTER_ADDR"] == "127.0.0.1"
        port = f":{int(environment['MASTER_PORT']):04X}"
        if sys.platform == "linux":
            assert [each for each in listens if each.endswith(port)] == [f"0100007F{port}"]
            assert environment["GLOO_SOCKET_IFNAME"] == "lo"


def test_a_rank_that_fails_ends_the_others_and_has_told_why(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_GRACE_S", 0.0)
    there, go = tmp_path / "there", tmp_path / "go"
    os.mkfifo(there)
    os.mkfifo(go)
    waits = f"""
if rank == '0':
    with open({str(there)!r}, 'w') as file:
        print(os.getpid(), file=file)
    signal.pause()
open({str(go)!r}).read()
sys.exit(3)
"""
    pids: list[int] = []

    def fail_when_the_other_is_there() -> None:
        pids.append(int(there.read_text()))
        go.write_text("go")

    thread = threading.Thread(target=fail_when_the_other_is_there)
    thread.start()
    with pytest.raises(RanksEndedError) as told:
        run_ranks(program(waits), 2)
    thread.join()
    assert (told.value.exit_code, told.value.is_told) == (3, True)
    assert not is_alive(pids[0])


def test_a_rank_that_is_killed_is_named() -> None:
    dies = "if rank == '1':\n    signal.raise_signal(signal.SIGKILL)"
    with pytest.raises(RanksEndedError, match=r"^rank 1 of 2 was ended by SIGKILL; ") as told:
        run_ranks(program(dies), 2)
    assert (told.value.exit_code, told.value.is_told) == (1, False)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_reach_all_ranks_which_end_in_their_own_time(
    number: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(launching, "_GRACE_S", 0.0)
    ready = tmp_path / "ready"
    os.mkfifo(ready)
    # Rank 1 leaves at once, rank 0 when it has saved; nobody hurries it.
    waits = f"""
import pathlib
signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
with open({str(ready)!r}, 'w') as file:
    print(rank, file=file)
number = signal.sigwait([signal.SIGINT, signal.SIGTERM])
if rank == '0':
    sum(range(2_000_000))
pathlib.Path({str(tmp_path)!r}, rank).write_text(str(int(number)))
sys.exit(130)
"""

    def interrupt() -> None:
        there = ""
        while len(there.split()) < 2:
            there += ready.read_text()
        os.kill(os.getpid(), number)

    thread = threading.Thread(target=interrupt)
    thread.start()
    before = signal.getsignal(number)
    with pytest.raises(RanksEndedError) as told:
        run_ranks(program(waits), 2)
    thread.join()
    assert (told.value.exit_code, told.value.is_told) == (130, True)
    assert [(tmp_path / rank).read_text() for rank in "01"] == [str(int(number))] * 2
    assert signal.getsignal(number) is before


def test_a_signal_while_they_are_begun_reaches_those_that_come_after_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    begin = subprocess.Popen

    def begin_and_be_told(*arguments: Any, **options: Any) -> subprocess.Popen[bytes]:
        process = begin(*arguments, **options)
        if options["env"]["RANK"] == "0":
            # Nobody is in the list by now.
            signal.raise_signal(signal.SIGTERM)
        return process

    monkeypatch.setattr(subprocess, "Popen", begin_and_be_told)
    with pytest.raises(RanksEndedError, match=r"^rank \d of 2 was ended by SIGTERM; "):
        run_ranks(program("signal.pause()"), 2)


@pytest.mark.parametrize(
    ("size", "rank", "is_first"),
    [(None, None, True), (None, "1", True), ("1", "1", True), ("2", "0", True), ("2", "1", False)],
)
def test_a_rank_that_no_world_belongs_to_is_alone(
    size: str | None, rank: str | None, is_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("WORLD_SIZE", size), ("RANK", rank)):
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    assert is_first_around() is is_first


@pytest.mark.parametrize(
    ("around", "number", "message"),
    [
        (None, "0", r"train: --num-processes: expected 1 or more, got 0"),
        (None, "two", r"--num-processes"),
        ("3", "2", r"train: --num-processes 2: this is one of 3 processes already; leave it out"),
    ],
)
def test_numbers_that_cannot_be_are_one_line(
    around: str | None,
    number: str,
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    if around is not None:
        monkeypatch.setenv("WORLD_SIZE", around)
    arguments = ["--data", str(tmp_path), "--output", str(tmp_path / "run")]
    assert main(["train", "smoke", *arguments, "--num-processes", number]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line), line
    assert not (tmp_path / "run").exists()


@pytest.mark.slow
def test_what_all_ranks_refuse_is_told_once(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    arguments = ["--data", str(tmp_path / "nowhere"), "--output", str(tmp_path / "run")]
    assert main(["train", "smoke", *arguments, "--num-processes", "2"]) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "nowhere" in line
