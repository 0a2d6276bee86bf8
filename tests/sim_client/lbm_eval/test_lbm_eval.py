"""Evaluations in a stand-in for LBM Eval: real processes, and real gRPC between them."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import grpc
import psutil
import pytest

from policy_interface.contract import CONTRACT_KEY, Contract, ImageSize
from sim_client.command_line import run as run_command_line
from step_analysis.ledger import read_design
from step_analysis.results_json import read_results_tree
from step_analysis.rollouts import Outcome, RolloutRecord

Script = Callable[[Mapping[int, str]], None]
LedgerOf = Callable[[], list[RolloutRecord]]

SUCCESS, FAILURE, TIMEOUT, ERROR = Outcome

STAND_IN = Path(__file__).with_name("stand_in")
PATIENCE_S = 240.0


def test_records_each_way_in_which_an_episode_ends(
    policy: Any,
    evaluate: Any,
    script: Script,
    ledger: LedgerOf,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script({8: "timeout", 10: "quick"})
    policy.spoil[9] = lambda response, context: response.action.gripper_status.pop()
    assert evaluate("7:11", tasks=("put_mug_on_saucer",), workers=2, save_meshcat=True) == 0

    records = {record.scenario_index: record for record in ledger()}
    assert [records[i].outcome for i in range(7, 11)] == [SUCCESS, TIMEOUT, FAILURE, SUCCESS]
    assert [records[i].num_control_steps for i in range(7, 11)] == [9, 15, 2, 3]
    assert [records[i].seed for i in range(7, 11)] == [100_000_100 + i for i in range(7, 11)]
    assert policy.num_resets == dict.fromkeys(range(7, 11), 1)
    assert records[7].duration_s == pytest.approx(0.9)
    assert records[7].detail["pre_solved"] is False
    # The policy moved, but nothing is done in 0.3 s.
    assert records[10].detail["pre_solved"] is True
    assert records[7].instruction == "do the task"
    assert records[7].first_inference_s == 0.1
    assert records[7].policy_latency.num_steps == 9
    assert records[8].message == "timeout: not done after 1.5 s"
    assert records[9].detail["failure_class"] == "policy"
    assert "action was rejected, LBM Eval can't take it: KeyError: 'left::panda_hand'" in (
        records[9].message or ""
    )
    (results,) = read_results_tree(tmp_path / "rollouts")
    assert [record.outcome for record in results.records] == [SUCCESS, TIMEOUT, FAILURE, SUCCESS]
    assert "PutMugOnSaucer: 2/4 succeeded (50.0%), 1 failed, 1 timed out" in capsys.readouterr().out
    # Where Foundry's dashboard looks for it.
    assert list(tmp_path.glob("rollouts/hold/PutMugOnSaucer/rollouts/*/*/demonstration_7/*.html"))


def test_none_of_our_stubs_is_in_lbm_evals_interpreter(evaluate: Any, tmp_path: Path) -> None:
    python = tmp_path / "python"
    python.write_text(f'#!/bin/sh\ntouch "{tmp_path}/used"\nexec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    assert evaluate("0:1", lbm_eval_python=python, save_meshcat=True) == 0
    assert (tmp_path / "used").exists()
    (path,) = tmp_path.glob("rollouts/hold/*/rollouts/*/*/demonstration_0/modules.json")
    modules = set(json.loads(path.read_text()))
    assert "grpc_workspace.proto.PolicyStep_pb2" in modules
    ours = ("policy_interface", "sim_client", "step_analysis", "policy_server", "trainer")
    assert not [name for name in modules if name.split(".")[0] in ours]


def test_its_stubs_and_ours_cannot_share_a_process(script: Script) -> None:
    code = (
        "import policy_interface.generated.lbm_policy_interface.PolicyStep_pb2\n"
        "import grpc_workspace.proto.PolicyStep_pb2"
    )
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.returncode == 1
    assert "duplicate" in process.stderr


# By fate: the class, and some of the message.
MISHAPS = {
    "solver": ("solver", "solver failed to converge (in scene.py)"),
    "scene graph": ("solver", "SceneGraph encountered a non-finite value"),
    "disk": ("disk", "No space left on device"),
    "h5": ("disk", "Unable to synchronously open object"),
    "no placement": ("scenario", "Rejection sampling found no valid scenario"),
    "bug": ("other", "ZeroDivisionError: division by zero (in scene.py)"),
    "die": ("process", "was ended by SIGSEGV; its last words: about to leave"),
}


def test_what_is_not_the_policys_doing_is_an_error_and_runs_again(
    policy: Any, evaluate: Any, script: Script, ledger: LedgerOf
) -> None:
    script(dict(enumerate(MISHAPS)))
    assert evaluate(f"0:{len(MISHAPS)}", workers=2) == 0
    for index, (failure_class, message) in enumerate(MISHAPS.values()):
        first, second = (record for record in ledger() if record.scenario_index == index)
        assert (first.outcome, first.attempt) == (ERROR, 1)
        assert first.detail == {"failure_class": failure_class}
        assert (first.message or "").startswith(f"{failure_class}: ")
        assert message in (first.message or "")
        assert (second.outcome, second.attempt) == (SUCCESS, 2)
        assert first.seed == second.seed
        assert policy.num_resets[index] == 2


def _abort(response: Any, context: grpc.ServicerContext) -> None:
    context.abort(grpc.StatusCode.INTERNAL, "the forward pass failed")


def _reject(response: Any, context: grpc.ServicerContext) -> None:
    response.success = False


def test_a_server_that_fails_is_an_error(policy: Any, evaluate: Any, ledger: LedgerOf) -> None:
    policy.spoil = {0: _abort, 1: _reject}
    assert evaluate("0:2", workers=2) == 0
    errors = {r.scenario_index: r for r in ledger() if r.outcome is ERROR}
    assert [errors[i].detail["failure_class"] for i in (0, 1)] == ["server", "server"]
    assert errors[0].message == "server: step: INTERNAL: the forward pass failed"
    assert "server: RuntimeError: The server rejected this client uuid" in (errors[1].message or "")
    assert sorted(r.scenario_index for r in ledger() if r.outcome is SUCCESS) == [0, 1]


def _nan(response: Any, context: grpc.ServicerContext) -> None:
    response.action.pose_status[0].pose.translation[0] = float("nan")


def _short_rotation(response: Any, context: grpc.ServicerContext) -> None:
    del response.action.pose_status[0].pose.rotation[8:]


def _no_arm(response: Any, context: grpc.ServicerContext) -> None:
    del response.action.pose_status[0]


def test_an_action_that_cannot_be_taken_is_the_policys_failure(
    policy: Any, evaluate: Any, ledger: LedgerOf
) -> None:
    policy.spoil = {0: _nan, 1: _short_rotation, 2: _no_arm}
    assert evaluate("0:3", workers=2) == 0
    records = {record.scenario_index: record for record in ledger()}
    assert [records[i].outcome for i in range(3)] == [FAILURE] * 3
    assert [records[i].detail["failure_class"] for i in range(3)] == ["policy"] * 3
    # Drake's solver complains, but of what the policy asked for.
    assert "it holds a NaN or an infinity: lbm_eval.scene.SimFailure" in (records[0].message or "")
    assert "a rotation has 9 elements" in (records[1].message or "")
    assert "KeyError: 'right::panda'" in (records[2].message or "")


def test_a_success_before_the_policy_has_acted_is_flagged(
    policy: Any, evaluate: Any, ledger: LedgerOf
) -> None:
    policy.num_held_steps = {0: 7, 1: 20}
    assert evaluate("0:2") == 0
    acted, held = ledger()
    assert (acted.outcome, held.outcome) == (SUCCESS, SUCCESS)
    assert (acted.first_inference_s, held.first_inference_s) == (0.7, None)
    assert (acted.detail["pre_solved"], held.detail["pre_solved"]) == (False, True)


def test_a_scene_solved_at_the_start_is_no_failure(
    evaluate: Any, script: Script, ledger: LedgerOf
) -> None:
    script({0: "solved"})
    assert evaluate("0:1", max_attempts=1) == 1
    (record,) = ledger()
    assert record.outcome is ERROR
    assert record.message == ("scenario: the scene is solved at t = 0, before the policy has acted")


@pytest.mark.slow
def test_a_simulation_that_hangs_is_killed_and_runs_again(
    evaluate: Any, script: Script, ledger: LedgerOf
) -> None:
    script({0: "hang"})
    assert evaluate("0:1", stall_timeout_s=6.0, step_timeout_s=4.0, wait_for_server_s=4.0) == 0
    first, second = ledger()
    assert first.message == "process: LBM Eval gave no sign of life within 6 s: killed"
    assert second.outcome is SUCCESS
    assert not _children_of_lbm_eval()


def test_a_worker_that_is_killed_takes_lbm_eval_with_it(
    policy: Any, evaluate: Any, ledger: LedgerOf, event: threading.Event
) -> None:
    killed: list[psutil.Process] = []

    def kill_once(index: int) -> None:
        if not killed:
            (child,) = _children_of_lbm_eval()
            worker = child.parent()
            assert worker is not None
            killed.append(child)
            worker.kill()
            # LBM Eval is in the midst of a call, and has nothing to tell anybody.
            event.wait()

    policy.after_reset = kill_once
    assert evaluate("0:1") == 0
    first, second = ledger()
    assert (first.outcome, second.outcome) == (ERROR, SUCCESS)
    assert "the worker process was ended by SIGKILL" in (first.message or "")
    _, alive = psutil.wait_procs(killed, timeout=PATIENCE_S)
    assert not alive


@pytest.mark.slow
def test_a_policy_that_never_answers_is_given_up(
    policy: Any, evaluate: Any, ledger: LedgerOf, event: threading.Event
) -> None:
    policy.spoil[0] = lambda response, context: event.wait()
    assert evaluate("0:1", step_timeout_s=4.0) == 0
    first, second = ledger()
    assert first.message == "server: no answer within 4 s: LBM Eval was killed"
    assert second.outcome is SUCCESS


def test_goes_on_where_an_earlier_run_stopped(
    policy: Any,
    evaluate: Any,
    script: Script,
    ledger: LedgerOf,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script({1: "solver"})
    assert evaluate("0:2", max_attempts=1, max_sample_size=3) == 1
    assert "1 of 2 episodes are still to do" in capsys.readouterr().out
    assert evaluate("0:3") == 0
    assert "resuming: 1 of 3 are done already" in capsys.readouterr().out
    assert policy.num_resets == {0: 1, 1: 2, 2: 1}
    assert [(r.scenario_index, r.outcome) for r in ledger()] == [
        (0, SUCCESS),
        (1, ERROR),
        (1, SUCCESS),
        (2, SUCCESS),
    ]
    # A later extension beyond the budget would void a sequential test.
    assert evaluate("0:4") == 2


def test_a_time_limit_is_passed_on_and_belongs_to_the_design(
    evaluate: Any,
    script: Script,
    ledger: LedgerOf,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script({0: "timeout"})
    assert evaluate("0:1", time_limit_s=0.5) == 0
    assert [(r.outcome, r.num_control_steps) for r in ledger()] == [(TIMEOUT, 5)]
    design = read_design(tmp_path / "rollouts" / "hold" / "evaluation.json")
    assert design.station == {
        "simulator": "lbm-eval",
        "time_limits_s": {"PutMugOnSaucer": 0.5},
    }
    assert design.software["lbm_eval"] == design.software["lbm_eval_scenarios"] == "1.1.0"
    assert evaluate("0:1") == 2
    assert "time_limits_s.PutMugOnSaucer: 0.5 here, None there" in capsys.readouterr().err


def test_results_have_the_fields_of_lbm_evals_own(
    policy: Any, evaluate: Any, script: Script, tmp_path: Path
) -> None:
    assert evaluate("0:1") == 0
    own = tmp_path / "own"
    own.mkdir()
    code = (
        "import pathlib, sys; from lbm_eval.evaluate import evaluate_many\n"
        "evaluate_many([dict(skill_type='put_mug_on_saucer', scenario_index=0,"
        " output_directory=pathlib.Path(sys.argv[1]), server_uri=sys.argv[2])])"
    )
    subprocess.run([sys.executable, "-c", code, str(own), policy.address], check=True)
    (theirs,) = [json.loads(path.read_text()) for path in own.glob("results-*.json")]
    (ours,) = [
        json.loads(path.read_text()) for path in tmp_path.glob("rollouts/hold/**/results.json")
    ]
    assert theirs.keys() <= ours.keys()
    (their_entry,), (our_entry,) = theirs["evaluations"], ours["evaluations"]
    assert their_entry.items() <= our_entry.items()


def test_a_policy_that_does_not_fit_is_told_every_difference(
    policy: Any, evaluate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    cameras = {
        "wrist_left_minus": ImageSize(height=600, width=960),
        "scene_left_0": ImageSize(height=128, width=128),
    }
    policy.runtime_information[CONTRACT_KEY] = Contract(cameras=cameras).to_json()
    tasks = ("PutMugOnSaucer", "PutSpatulaInUtensilCrock")
    assert evaluate("0:1", tasks=tasks) == 1
    error = capsys.readouterr().err
    assert "station cabot: camera 'scene_left_0': the station gives 640x480" in error
    assert not policy.num_resets

    del cameras["scene_left_0"]
    policy.runtime_information[CONTRACT_KEY] = Contract(cameras=cameras).to_json()
    assert evaluate("0:1", tasks=tasks) == 1
    assert "station riverway: camera 'wrist_left_minus' missing" in capsys.readouterr().err


def test_without_the_wheels_one_line_says_what_to_install(
    evaluate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("PYTHONPATH")
    assert evaluate() == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"LBM Eval is not installed in {sys.executable}: it has no module 'lbm_eval'" in line
    assert f"`{sys.executable} -m pip install robot_gym-1.1.0-py3-none-any.whl lbm_eval-" in line


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tasks": ("PutMugOnSaucr",)}, "Did you mean 'PutMugOnSaucer'?"),
        ({"lbm_eval_python": Path("/no/such/python")}, "--lbm-eval-python /no/such/python: can't"),
        ({"token_file": Path("token")}, "--token-file: not with --simulator lbm-eval"),
        ({"served_policy": "other"}, "--served-policy: not with --simulator lbm-eval"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    evaluate: Any,
    capsys: pytest.CaptureFixture[str],
    options: dict[str, Any],
    message: str,
) -> None:
    assert evaluate(**options) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_scenarios_that_are_not_installed_are_named(
    evaluate: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("LBM_STAND_IN_SKILLS", '["put_mug_on_saucer"]')
    assert evaluate(tasks=("PutMugOnSaucer", "TurnCupUpsideDown")) == 2
    assert "has no scenario for TurnCupUpsideDown;" in capsys.readouterr().err
    monkeypatch.setenv("LBM_STAND_IN_SKILLS", "[]")
    assert evaluate() == 2
    assert "has no skills. Download its four wheels" in capsys.readouterr().err


def test_an_installation_that_does_not_work_says_why(
    evaluate: Any,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    python = tmp_path / "python"
    python.write_text("#!/bin/sh\necho no such luck\nexit 3\n")
    python.chmod(0o755)
    assert evaluate(lbm_eval_python=python) == 2
    assert (
        f"on importing LBM Eval, {python} ended with exit code 3; its last words: no such luck"
        in capsys.readouterr().err
    )
    monkeypatch.delenv("LBM_STAND_IN_SKILLS")
    assert evaluate() == 2
    assert (
        f"LBM Eval does not work in {sys.executable}: KeyError: 'LBM_STAND_IN_SKILLS'"
        in capsys.readouterr().err
    )
    # Without its stubs.
    monkeypatch.setenv("PYTHONPATH", str(STAND_IN))
    assert evaluate() == 2
    assert (
        f"LBM Eval is not whole in {sys.executable}: it has no module 'grpc_workspace.proto'. "
        in capsys.readouterr().err
    )


def test_lists_the_skills(capsys: pytest.CaptureFixture[str]) -> None:
    assert run_command_line(["tasks", "--simulator", "lbm-eval", "--json"]) == 0
    listed = json.loads(capsys.readouterr().out)
    assert len(listed) == 49
    assert {"name": "TurnMugRightsideUp", "station": "cabot", "time_limit_s": 25.0} in listed
    assert run_command_line(["tasks", "--simulator", "lbm-eval"]) == 0
    assert "BimanualHangMugsOnMugHolderFromTable" in capsys.readouterr().out


@pytest.mark.parametrize(
    "number", [signal.SIGKILL, pytest.param(signal.SIGINT, marks=pytest.mark.slow)]
)
def test_however_the_runner_ends_no_process_of_lbm_eval_stays(
    policy: Any,
    evaluate: Any,
    script: Script,
    ledger: LedgerOf,
    event: threading.Event,
    tmp_path: Path,
    number: signal.Signals,
) -> None:
    reached = threading.Event()

    def wait_in_the_second(index: int) -> None:
        if index == 1:
            reached.set()
            event.wait()

    policy.after_reset = wait_in_the_second
    arguments = ["evaluate", "--simulator", "lbm-eval", "--tasks", "PutMugOnSaucer"]
    arguments += ["--episodes", "0:3", "--workers", "1", "--address", policy.address]
    arguments += ["--output", str(tmp_path / "rollouts")]
    with subprocess.Popen(
        [sys.executable, "-c", "from sim_client.command_line import main; main()", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        assert reached.wait(timeout=PATIENCE_S), "the second episode never began"
        family = psutil.Process(process.pid).children(recursive=True)
        assert any("child.py" in " ".join(each.cmdline()) for each in family)
        # As a terminal does: to the whole process group.
        os.killpg(process.pid, number)
        _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == (-number if number == signal.SIGKILL else 130)
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    assert [(r.scenario_index, r.outcome) for r in ledger()] == [(0, SUCCESS)]

    event.set()
    assert evaluate("0:3") == 0
    assert [(r.scenario_index, r.outcome) for r in ledger()] == [(i, SUCCESS) for i in range(3)]


def _children_of_lbm_eval() -> list[psutil.Process]:
    return [p for p in psutil.Process().children(recursive=True) if "child.py" in str(p.cmdline())]
