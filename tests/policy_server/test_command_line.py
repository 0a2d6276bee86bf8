"""The real program in a process of its own: its one line, its exit codes, its end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import grpc
import pytest

from policy_interface.client import PolicyClient
from policy_server.command_line import main
from policy_server.scripted_policies import HoldPolicy
from policy_server.testing import running_server

_PROGRAM = [sys.executable, "-m", "policy_server.command_line"]
_PATIENCE_S = 240.0

# A policy of a user's, that never comes back from its first forward pass.
_STUCK_POLICY = """
import threading
from policy_server.command_line import main
from policy_server.scripted_policies import HoldPolicy

class Stuck(HoldPolicy):
    def plan(self, histories, noise):
        print("planning", flush=True)
        threading.Event().wait()

class Slow(HoldPolicy):
    def __init__(self):
        print("loading", flush=True)
        threading.Event().wait()

class Versioned(HoldPolicy):
    def __init__(self):
        with open("version") as file:
            print("version", file.read(), flush=True)

class NeedsArguments:
    def __init__(self, path):
        pass

class NoPolicy:
    plan = 3
"""


@contextmanager
def _started(*arguments: str, cwd: Path | None = None) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [*_PROGRAM, "serve", *arguments, "--address", "127.0.0.1:0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        cwd=cwd,
    )
    # A line that never comes would be waited for without end.
    watchdog = threading.Timer(_PATIENCE_S, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.communicate()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline()


def _address(ready_line: str) -> str:
    return ready_line.partition(" at ")[2].split()[0]


@pytest.fixture
def user_folder(tmp_path: Path) -> Path:
    (tmp_path / "my_policies.py").write_text(_STUCK_POLICY)
    (tmp_path / "version").write_text("1")
    return tmp_path


@pytest.fixture
def in_user_folder(user_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working folder, for a program that runs in the test's own process."""
    monkeypatch.chdir(user_folder)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "my_policies", raising=False)
    return user_folder


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 0)])
def test_it_serves_until_told_to_stop(make_observation, number, code) -> None:
    with _started("hold", "--name", "pick a box") as process:
        ready = _line(process)
        assert ready.startswith("serving pick a box at 127.0.0.1:")
        with PolicyClient(_address(ready)) as client:
            client.wait_until_serving(timeout_s=_PATIENCE_S)
            client.reset(seed=0)
            client.step(make_observation())
        process.send_signal(number)
        _, log = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == code
    assert "answered 1 steps of 1 episodes" in log
    assert "Traceback" not in log


def test_a_policy_that_hangs_does_not_keep_the_process(make_observation, wire, user_folder) -> None:
    with _started("my_policies:Stuck", "--drain-s", "0.1", cwd=user_folder) as process:
        ready = _line(process)
        with wire(_address(ready)) as client:
            client.reset(seed=0)
            call = client.begin_step(make_observation())
            assert _line(process) == "planning\n"
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=_PATIENCE_S)
            assert call.code() == grpc.StatusCode.UNAVAILABLE
    assert process.returncode == 0


def test_a_second_interrupt_ends_it_at_once(make_observation, wire, user_folder) -> None:
    with _started("my_policies:Stuck", "--drain-s", "1e6", cwd=user_folder) as process:
        ready = _line(process)
        with wire(_address(ready)) as client:
            client.reset(seed=0)
            call = client.begin_step(make_observation())
            assert _line(process) == "planning\n"
            process.send_signal(signal.SIGINT)
            assert process.stderr is not None
            assert any("draining" in line for line in process.stderr)
            process.send_signal(signal.SIGINT)
            process.communicate(timeout=_PATIENCE_S)
            assert call.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.CANCELLED)
    assert process.returncode == 130


def test_a_hangup_loads_every_policy_anew_and_ends_no_episode(
    make_observation, wire, user_folder
) -> None:
    with _started("my_policies:Versioned", "other=hold", cwd=user_folder) as process:
        assert _line(process) == "version 1\n"
        address = _address(_line(process))
        with wire(address) as client, PolicyClient(address) as watcher:
            client.reset(seed=0)
            (user_folder / "version").write_text("2")
            process.send_signal(signal.SIGHUP)
            assert _line(process) == "version 2\n"
            assert process.stderr is not None
            assert any("reloaded other" in line for line in process.stderr)
            watcher.wait_until_serving(timeout_s=_PATIENCE_S)
            assert client.begin_step(make_observation()).result().success
            # What cannot be loaded leaves what there is.
            (user_folder / "version").unlink()
            process.send_signal(signal.SIGHUP)
            assert any("the former policies stay" in line for line in process.stderr)
            watcher.wait_until_serving(timeout_s=_PATIENCE_S)
            client.reset(seed=1)
            assert client.begin_step(make_observation()).result().success
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 0


def test_an_interrupt_while_loading_ends_it(user_folder) -> None:
    with _started("my_policies:Slow", cwd=user_folder) as process:
        assert _line(process) == "loading\n"
        process.send_signal(signal.SIGINT)
        out, _ = process.communicate(timeout=_PATIENCE_S)
    assert process.returncode == 130
    assert "serving" not in out


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["serve", "no/such/folder"], "no such folder"),
        (["serve", "holt"], "did you mean 'hold'?"),
        (["serve", "no_such_module:Policy"], "cannot import no_such_module"),
        (["serve", "my_policies:Stick"], "did you mean 'Stuck'?"),
        (["serve", "my_policies:NoPolicy"], "plan: expected a method"),
        (["serve", "my_policies.py"], "is not a folder"),
        (["serve", "hold", "--address", "nowhere"], "expected HOST:PORT"),
        (["serve", "hold", "--max-batch-size", "0"], "--max-batch-size: expected at least 1"),
        (["serve", "hold", "--open-loop-steps", "0"], "--open-loop-steps: expected at least 1"),
        (["serve", "hold", "--open-loop-steps", "2"], "open-loop steps: expected 1 to 1"),
        (["serve", "hold", "--drain-s", "-1"], "--drain-s"),
        (["serve", "hold", "--device", "cpu"], "--device is for checkpoints"),
        (["serve", "wave", "--num-flow-steps", "3"], "--num-flow-steps is for checkpoints"),
        (["health", "--address", "nowhere"], "expected HOST:PORT"),
    ],
)
def test_bad_input_gets_one_clear_line(in_user_folder, capfd, arguments, said) -> None:
    assert main(arguments) == 2
    out, err = capfd.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""


@pytest.mark.parametrize("arguments", [["serve", "hold", "--max-bach-size", "3"], ["sevre"], []])
def test_a_misspelt_option_or_verb_is_bad_usage(arguments, capfd) -> None:
    assert main(arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("policy-server: ")


def test_a_class_that_cannot_be_made_fails_with_its_reason(in_user_folder, capfd) -> None:
    assert main(["serve", "my_policies:NeedsArguments", "--address", "127.0.0.1:0"]) == 1
    assert "missing 1 required positional argument" in capfd.readouterr().err.splitlines()[-1]


def test_a_busy_port_is_bad_input(capfd) -> None:
    with running_server(HoldPolicy()) as server:
        assert main(["serve", "hold", "--address", server.address]) == 2
        err = capfd.readouterr().err
    assert "another program does already" in err
    assert err.count("\n") == 1


def test_health_is_the_exit_code(capfd) -> None:
    with running_server(HoldPolicy()) as server:
        assert main(["health", "--address", server.address]) == 0
        assert capfd.readouterr().err == ""
        address = server.address
    capfd.readouterr()  # what the server logged of its end
    assert main(["health", "--address", address, "--wait", "0.2"]) == 1
    assert capfd.readouterr().err.count("\n") == 1


def test_a_missing_extra_names_what_to_install(tmp_path) -> None:
    (tmp_path / "tyro.py").write_text("raise ModuleNotFoundError('No tyro', name='tyro')\n")
    done = subprocess.run(
        [*_PROGRAM, "serve", "hold"],
        capture_output=True,
        text=True,
        timeout=_PATIENCE_S,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert done.returncode == 2
    assert "pip install '.[serve]' in Assay's checkout" in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize("arguments", [["--help"], ["serve", "--help"], ["health", "--help"]])
def test_help_shows_an_example(arguments, capfd) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(arguments)
    assert exit_.value.code == 0
    assert "Example: policy-server" in capfd.readouterr().out
