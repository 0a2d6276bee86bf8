"""Evaluations in which something breaks: never a verdict on the policy, always resumable."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import psutil
import pytest

from step_analysis.ledger import read_ledger
from step_analysis.results_json import read_results_tree
from step_analysis.rollouts import Outcome, RolloutRecord
from tests.prepared_process import with_files_of_at_most

Script = Callable[[Mapping[int, str]], None]
HERE = Path(__file__).parent
PATIENCE_S = 240.0


@pytest.fixture
def rollouts(tmp_path: Path) -> Path:
    return tmp_path / "rollouts"


def ledger_of(rollouts: Path) -> list[RolloutRecord]:
    return read_ledger(rollouts / "hold" / "ledger.jsonl")


def verdicts(rollouts: Path) -> Counter[int]:
    return Counter(r.scenario_index for r in ledger_of(rollouts) if r.outcome.counts)


Process = subprocess.Popen[str]


@pytest.fixture
def start_evaluation(
    served: Any, script: Script, rollouts: Path
) -> Iterator[Callable[[str], Process]]:
    """Evaluate in another process, in a process group of its own as under a terminal."""
    started: list[Process] = []

    def start(
        episodes: str,
        workers: int = 2,
        *,
        while_input_open: bool = False,
        started_as: Callable[[Sequence[str]], list[str]] = list,
        **process: Any,
    ) -> Process:
        options = {
            "tasks": ["PickAndPlaceBox"],
            "episodes": episodes,
            "address": served.address,
            "workers": workers,
            "output": str(rollouts),
            "while_input_open": while_input_open,
        }
        process = subprocess.Popen(
            started_as(
                [sys.executable, str(HERE / "evaluate_with_fake_station.py"), json.dumps(options)]
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            **process,
        )
        started.append(process)
        return process

    yield start
    for process in started:
        if process.poll() is None:
            process.kill()
        process.communicate()


@pytest.mark.parametrize(
    ("fate", "message"),
    [
        ("die", "the worker process was ended by SIGKILL (out of memory?)"),
        ("raise", "RuntimeError: the physics of scenario 1 diverged (fake_station.py:"),
    ],
)
def test_a_worker_that_breaks_is_an_error_and_its_episode_runs_again(
    served: Any, evaluate: Any, script: Script, rollouts: Path, fate: str, message: str
) -> None:
    script({1: fate})
    assert evaluate("0:3") == 0
    first, second = [record for record in ledger_of(rollouts) if record.scenario_index == 1]
    assert (first.outcome, first.attempt) == (Outcome.ERROR, 1)
    assert message in (first.message or "")
    assert (second.outcome, second.attempt) == (Outcome.SUCCESS, 2)
    assert first.seed == second.seed == 100_000_101
    assert verdicts(rollouts) == {0: 1, 1: 1, 2: 1}
    (results,) = read_results_tree(rollouts)
    assert [record.outcome for record in results.records] == ["success"] * 3


def test_a_worker_that_crashes_says_where_it_was(
    served: Any,
    evaluate: Any,
    script: Script,
    rollouts: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    script({0: "abort"})
    assert evaluate("0:1") == 0
    error, success = ledger_of(rollouts)
    assert error.message == "the worker process was ended by SIGABRT"
    assert success.outcome is Outcome.SUCCESS
    said = capfd.readouterr().err
    assert "Fatal Python error: Aborted" in said
    assert "fake_station.py" in said


@pytest.mark.slow
def test_a_worker_that_hangs_is_replaced(
    served: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    script({0: "hang"})
    assert evaluate("0:1", stall_timeout_s=8.0, step_timeout_s=5.0, wait_for_server_s=5.0) == 0
    error, success = ledger_of(rollouts)
    assert "no sign of life for 8 s" in (error.message or "")
    assert success.outcome is Outcome.SUCCESS


def test_an_episode_that_breaks_each_time_keeps_no_verdict(
    served: Any,
    evaluate: Any,
    script: Script,
    rollouts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script({0: "always raise"})
    assert evaluate("0:2", max_attempts=2) == 1
    captured = capsys.readouterr()
    assert "PickAndPlaceBox: 1/1 succeeded (100.0%), 1 without a verdict" in captured.out
    assert verdicts(rollouts) == {1: 1}
    (results,) = read_results_tree(rollouts)
    assert [record.outcome for record in results.records] == ["error", "success"]

    script({})
    assert evaluate("0:2") == 0
    assert verdicts(rollouts) == {0: 1, 1: 1}
    assert [r.attempt for r in ledger_of(rollouts) if r.scenario_index == 0] == [1, 2, 3]


def test_gives_up_when_nothing_but_errors_comes(
    served: Any,
    evaluate: Any,
    script: Script,
    rollouts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    script(dict.fromkeys(range(50), "solved"))
    assert evaluate("0:50") == 1
    assert len(ledger_of(rollouts)) == 10
    error = capsys.readouterr().err.splitlines()[-1]
    assert "the last 10 attempts all ended in errors" in error
    assert "solved at t = 0, before the policy has acted" in error


def test_a_server_that_dies_and_comes_back_costs_no_verdict(
    served: Any, evaluate: Any, rollouts: Path
) -> None:
    def restart() -> None:
        served.stop()
        served.start()

    restarting = threading.Thread(target=restart)

    def before_step(step: Any) -> None:
        if (step.scenario_index, step.number) == (1, 2) and not restarting.ident:
            restarting.start()
            # The answer must not overtake the death.
            step.cut_off.wait()

    served.before_step = before_step
    assert evaluate("0:3") == 0
    restarting.join()
    assert verdicts(rollouts) == {0: 1, 1: 1, 2: 1}
    errors = [record for record in ledger_of(rollouts) if record.outcome is Outcome.ERROR]
    assert [record.scenario_index for record in errors] == [1]
    assert "no answer to PolicyStep" in (errors[0].message or "")


def test_a_server_that_stays_away_stops_the_evaluation_without_using_up_attempts(
    served: Any, evaluate: Any, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stopping = threading.Thread(target=served.stop)

    def before_step(step: Any) -> None:
        if (step.scenario_index, step.number) == (1, 2):
            stopping.start()
            step.cut_off.wait()

    served.before_step = before_step
    assert evaluate("0:8", wait_for_server_s=2.0) == 1
    stopping.join()
    assert "the policy server has been gone for 2 s" in capsys.readouterr().err.splitlines()[-1]
    assert [r.outcome for r in ledger_of(rollouts)] == [Outcome.SUCCESS, Outcome.ERROR]

    served.before_step = lambda step: None
    served.start()
    assert evaluate("0:8") == 0
    assert verdicts(rollouts) == dict.fromkeys(range(8), 1)


def test_another_checkpoint_behind_the_address_stops_the_evaluation(
    served: Any, evaluate: Any, rollouts: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def before_step(step: Any) -> None:
        if step.scenario_index == 1:
            served.runtime_information["assay.checkpoint_sha256"] = "two"

    served.before_step = before_step
    assert evaluate("0:4") == 1
    assert "now serves another policy, {'digest': 'two'" in capsys.readouterr().err
    assert verdicts(rollouts) == {0: 1, 1: 1}


def test_no_server_is_one_clear_line(
    policy: Any, evaluate: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    policy.start()
    policy.stop()
    assert evaluate(wait_for_server_s=0.3) == 1
    (line,) = capsys.readouterr().err.splitlines()
    assert f"no policy server serves at {policy.address} within 0.3 s" in line


def test_an_unwritable_output_is_refused_before_anything_else(
    policy: Any, evaluate: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert evaluate(address="127.0.0.1:1", output=tmp_path / "file" / "rollouts") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "can't be written to: Not a directory" in line


def test_a_full_disk_stops_it_with_one_line_and_loses_nothing(
    served: Any, start_evaluation: Any, evaluate: Any, script: Script, rollouts: Path
) -> None:
    # The fourth line of the ledger is over this; logs of actions, which are longer, fail before.
    limited = partial(with_files_of_at_most, 2500)
    script({})
    process = start_evaluation("0:12", workers=1, started_as=limited)
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    assert "sim-client: can't write the results: [Errno 27] File too large" in err
    assert "Traceback" not in err
    records = ledger_of(rollouts)
    assert records
    assert all(record.outcome is Outcome.ERROR for record in records)
    assert all("File too large" in (record.message or "") for record in records)

    assert evaluate("0:12", time_limit_s=None) == 0
    assert verdicts(rollouts) == dict.fromkeys(range(12), 1)


def test_a_killed_evaluation_leaves_no_process_and_resumes(
    served: Any,
    start_evaluation: Any,
    evaluate: Any,
    make_gate: Any,
    rollouts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = make_gate(3)
    served.before_step = gate
    process = start_evaluation("0:6", workers=1)
    gate.wait_until_reached()
    family = psutil.Process(process.pid).children(recursive=True)
    assert family
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    assert verdicts(rollouts) == {0: 1, 1: 1, 2: 1}

    gate.open()
    assert evaluate("0:6", time_limit_s=None) == 0
    assert "resuming: 3 of 6 are done already" in capsys.readouterr().out
    assert verdicts(rollouts) == dict.fromkeys(range(6), 1)
    assert len(read_results_tree(rollouts)) == 1


@pytest.mark.parametrize(
    "number", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)]
)
def test_ctrl_c_leaves_everything_consistent(
    served: Any, start_evaluation: Any, make_gate: Any, rollouts: Path, number: signal.Signals
) -> None:
    gate = make_gate(2)
    served.before_step = gate
    process = start_evaluation("0:4", workers=1)
    gate.wait_until_reached()
    family = psutil.Process(process.pid).children(recursive=True)
    # As a terminal does: to the whole process group, workers included.
    os.killpg(process.pid, number)
    out, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert "2 of 4 episodes are still to do; the same command goes on from here" in out
    assert err.splitlines()[-1] == "sim-client: interrupted"
    assert "Traceback" not in err
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    assert verdicts(rollouts) == {0: 1, 1: 1}
    (results,) = read_results_tree(rollouts)
    assert [record.scenario_index for record in results.records] == [0, 1]
    assert [key.scenario_index for key in results.pending] == [2, 3]


@pytest.mark.slow
def test_an_evaluation_ends_when_whoever_holds_its_input_is_gone(
    served: Any, start_evaluation: Any, make_gate: Any, rollouts: Path
) -> None:
    gate = make_gate(1)
    served.before_step = gate
    process = start_evaluation("0:2", workers=1, while_input_open=True, stdin=subprocess.PIPE)
    gate.wait_until_reached()
    family = psutil.Process(process.pid).children(recursive=True)
    # It closes the pipe first.
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "sim-client: interrupted"
    _, alive = psutil.wait_procs(family, timeout=PATIENCE_S)
    assert not alive
    assert verdicts(rollouts) == {0: 1}


def test_two_processes_share_the_episodes_of_one_folder(
    served: Any,
    start_evaluation: Any,
    evaluate: Any,
    make_gate: Any,
    rollouts: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    gate = make_gate(0)

    def before_step(step: Any) -> None:
        # Held until everything else is done, which the other process alone can do.
        if step.scenario_index == 3:
            gate.open()
        gate(step)

    served.before_step = before_step
    process = start_evaluation("0:4", workers=1)
    gate.wait_until_reached()
    assert evaluate("0:4", time_limit_s=None, latency_ms=100.0) == 2
    assert "holds another evaluation" in capsys.readouterr().err
    assert evaluate("0:4", time_limit_s=None) == 0
    _, err = process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 0, err
    assert sorted(served.reset_indices) == [0, 1, 2, 3]
    assert verdicts(rollouts) == dict.fromkeys(range(4), 1)
    (results,) = read_results_tree(rollouts)
    assert [record.scenario_index for record in results.records] == [0, 1, 2, 3]
    assert not list((rollouts / "hold" / ".claims").iterdir())


def test_what_a_killed_process_ran_another_one_runs_again_with_the_same_seed(
    served: Any, start_evaluation: Any, evaluate: Any, make_gate: Any, rollouts: Path
) -> None:
    gate = make_gate(0)
    victims: list[Process] = []

    def before_step(step: Any) -> None:
        if (step.scenario_index, step.number) == (2, 1):
            victims.pop().kill()
            gate.open()
        gate(step)

    served.before_step = before_step
    victims.append(start_evaluation("0:3", workers=1))
    gate.wait_until_reached()
    assert evaluate("0:3", time_limit_s=None) == 0
    assert sorted(served.reset_indices) == [0, 0, 1, 2]
    # A process that is gone has recorded nothing: that is no error of the episode's.
    assert [record.attempt for record in ledger_of(rollouts)] == [1, 1, 1]
    assert verdicts(rollouts) == {0: 1, 1: 1, 2: 1}
    assert {record.seed - record.scenario_index for record in ledger_of(rollouts)} == {100_000_100}


@pytest.mark.slow
def test_attempts_of_all_processes_count_together(
    served: Any,
    start_evaluation: Any,
    evaluate: Any,
    make_gate: Any,
    script: Script,
    rollouts: Path,
) -> None:
    script({0: "always raise"})
    gate = make_gate(0)

    def before_step(step: Any) -> None:
        if step.scenario_index == 1:
            gate.open()
        gate(step)

    served.before_step = before_step
    process = start_evaluation("0:2", workers=1)
    gate.wait_until_reached()
    assert evaluate("0:2", time_limit_s=None) == 1
    process.communicate(timeout=PATIENCE_S)
    assert process.returncode == 1
    errors = [record for record in ledger_of(rollouts) if record.outcome is Outcome.ERROR]
    assert [record.attempt for record in errors] == [1, 2, 3]
