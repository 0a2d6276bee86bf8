"""The `sim-client` program as a user meets it."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from sim_client.command_line import VERBS, run

PROGRAM = str(Path(sys.executable).with_name("sim-client"))


def test_without_a_verb_it_shows_the_verbs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run([]) == 2
    assert run(["--help"]) == 0
    out = capsys.readouterr().out
    for verb in VERBS:
        assert f"  {verb}" in out


def test_a_misspelt_verb_is_one_line_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evalute"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown verb 'evalute'" in line
    assert "Did you mean 'evaluate'?" in line


SIXTEEN_TASKS = {
    "PickAndPlaceBox",
    "PushCoasterToCenterOfTable",
    "PushCoasterToMug",
    "PlaceCupByCoaster",
    "PutMugOnSaucer",
    "PutMugInCenterOfTable",
    "PutKiwiInCenterOfTable",
    "PutBananaOnSaucer",
    "TurnMugRightsideUp",
    "TurnCupUpsideDown",
    "PutSpatulaInUtensilCrock",
    "BimanualPlaceAppleFromBowlIntoBin",
    "BimanualPlaceFruitFromBowlIntoBin",
    "BimanualPutRedBellPepperInBin",
    "BimanualStackPlatesOnTableFromDryingRack",
    "BimanualStoreCerealBoxUnderShelf",
}


def test_lists_the_tasks(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["tasks"]) == 0
    assert "Pick up the box" in capsys.readouterr().out
    assert run(["tasks", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert {task["name"] for task in listed} == SIXTEEN_TASKS
    assert all(task["time_limit_s"] > 0 and task["instruction"] for task in listed)


@pytest.mark.parametrize("verb", list(VERBS))
def test_help_shows_an_example(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        run([verb, "--help"])
    assert exit_.value.code == 0
    assert f"sim-client {verb} -" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--tasks", "PickAndPlaceBox", "--episode", "0:5"], "--episodes"),
        (["--tasks", "PickAndPlaceBox", "--episodes", "5"], "START:END"),
        (["--tasks", "PickAndPlaceBox", "--workers", "0"], "at least 1"),
        ([], "--tasks"),
    ],
)
def test_a_misspelt_option_or_value_exits_with_2(
    arguments: list[str], hint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["evaluate", *arguments]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert hint in line


def test_a_misspelt_task_is_one_line_with_a_suggestion(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["evaluate", "--tasks", "PickAndPlaceBocks"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "unknown task 'PickAndPlaceBocks'" in line
    assert "Did you mean 'PickAndPlaceBox'?" in line


def test_a_missing_extra_is_one_line_with_the_cure(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "tyro", None)
    assert run(["tasks"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "'tyro'" in line
    assert "pip install '.[sim]' in Assay's checkout" in line


def test_help_needs_neither_simulator_nor_wire() -> None:
    code = (
        "import sys; from sim_client.command_line import run\n"
        "try: run(['evaluate', '--help'])\n"
        "except SystemExit: pass\n"
        "sys.exit(' '.join({'pydrake', 'grpc', 'cv2'} & sys.modules.keys()) or 0)"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stderr == ""
    assert "--episodes START:END" in process.stdout


def test_ctrl_c_while_waiting_for_a_server(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(240)
        host, port = listener.getsockname()
        arguments = ["evaluate", "--tasks", "PickAndPlaceBox", "--address", f"{host}:{port}"]
        with subprocess.Popen(
            [PROGRAM, *arguments, "--output", str(tmp_path / "rollouts")],
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            # It accepts connections but never speaks: the client is waiting from here on.
            connection, _ = listener.accept()
            process.send_signal(signal.SIGINT)
            _, err = process.communicate(timeout=240)
            connection.close()
    assert process.returncode == 130
    assert err == "sim-client: interrupted\n"
