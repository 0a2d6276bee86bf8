"""Evaluations beside a training: told at their step, done once, and never in the way.

The programs are stand-ins that write what sim-client leaves; a slow test has the real ones.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from tests.trainer import ranks
from trainer.closed_loop.configuration import EvaluateConfig
from trainer.configuration_json import config_from_json, config_to_json
from trainer.learner import Learner
from trainer.policy_configuration import TrainConfig
from trainer.requirements import ConfigurationError
from trainer.training_loop import TrainingInterruptedError, train

PYTHON = sys.executable
PROGRAMS = Path(PYTHON).parent

_SERVER = """
import os, pathlib, sys
here = pathlib.Path(__file__).parent
target = sys.argv[2]
if target != "hold":
    with (here / "calls").open("a") as calls:
        calls.write(pathlib.Path(target).name + "\\n")
    (here / "served").write_text(target)
if (here / "broken").exists() and (here / "broken").read_text() in target:
    sys.exit("policy-server: no weights here")
print("serving it at 127.0.0.1:7", flush=True)
sys.stdin.read()
"""

_SIMULATOR = """
import hashlib, json, os, pathlib, sys
here = pathlib.Path(__file__).parent
if sys.argv[1] == "tasks":
    print(json.dumps([{"name": "ReachTheSquare"}, {"name": "PushTheSquare"}]))
    sys.exit()
options = dict(zip(sys.argv[3::2], sys.argv[4::2]))
checkpoint = pathlib.Path((here / "served").read_text())
if (here / "held").exists():
    (here / "held").read_text()
if (here / "hangs").exists():
    (here / "pid").write_text(str(os.getpid()))
    (here / "reached").write_text("")
    sys.stdin.read()
    sys.exit("sim-client: interrupted")
folder = pathlib.Path(options["--output"], options["--policy-name"])
folder.mkdir(exist_ok=True)
first, last = map(int, options["--episodes"].split(":"))
digest = hashlib.sha256((checkpoint / "MANIFEST.json").read_bytes()).hexdigest()
design = {"version": 1, "policy_digest": digest, "num_episodes": last - first, "station": {}}
(folder / "evaluation.json").write_text(json.dumps(design))
with (folder / "ledger.jsonl").open("w") as ledger:
    for task in options["--tasks"].split(","):
        for index in range(first, last):
            outcome = "success" if index % 4 == 0 else "timeout"
            record = {"version": 2, "policy": options["--policy-name"], "task": task}
            print(json.dumps({**record, "scenario_index": index, "outcome": outcome}), file=ledger)
"""


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where the stand-ins are, and what they are told by files."""
    folder = tmp_path / "bin"
    folder.mkdir()
    for name, text in (("policy-server", _SERVER), ("sim-client", _SIMULATOR)):
        (folder / name).write_text(f"#!{sys.executable} -IS\n{text}")
        (folder / name).chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    return folder


@pytest.fixture
def config(tiny_config: TrainConfig) -> TrainConfig:
    """Evaluated at 2, 4 and 5; only the last of them is kept and saved for another reason."""
    return replace(
        tiny_config,
        num_steps=5,
        checkpoint_steps=(),
        validation_episodes=0,
        save_state_every=5,
        evaluate=EvaluateConfig(every=2),
    )


def calls(programs: Path) -> list[str]:
    return (programs / "calls").read_text().split()


def test_a_checkpoint_is_evaluated_once_and_told_at_its_step(
    programs: Path,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    run = tmp_path / "run"
    (programs / "hangs").touch()
    os.mkfifo(programs / "reached")
    take_step = Learner.step

    def stop_in_the_midst(self: Learner, batch, step, generator):
        if step == 2:
            # Comes to its end when the simulator has been there.
            (programs / "reached").read_text()
            signal.raise_signal(signal.SIGINT)
        return take_step(self, batch, step, generator)

    with monkeypatch.context() as patched:
        patched.setattr(Learner, "step", stop_in_the_midst)
        with pytest.raises(TrainingInterruptedError, match="step 3 of 5"):
            train(config, run)
    assert not psutil.pid_exists(int((programs / "pid").read_text()))
    assert "a resume goes on" in capsys.readouterr().err
    (programs / "hangs").unlink()
    changed = replace(config, evaluate=replace(config.evaluate, tasks=("PushTheSquare",)))
    final = train(changed, run)
    told = capsys.readouterr().err
    assert "step 2 in simulation: PushTheSquare 3 of 10, 30% (95 %: 11% to 60%)" in told
    assert calls(programs) == ["step_000002", "step_000002", "step_000004", "step_000005"]
    scalars = EventAccumulator(str(run / "tensorboard")).Reload()
    for name, value in (("", 0.3), ("_low", 0.108), ("_high", 0.603)):
        events = scalars.Scalars(f"evaluation/PushTheSquare/success_rate{name}")
        assert [event.step for event in events] == [2, 4, 5]
        assert all(event.value == pytest.approx(value, abs=1e-3) for event in events)
    stored = json.loads((run / "evaluations" / "step_000004" / "told.json").read_text())
    assert stored["tasks"]["PushTheSquare"]["successes"] == 3
    # What was learnt is what is learnt without.
    without = train(replace(config, evaluate=EvaluateConfig()), tmp_path / "without")
    weights = [(each / "model.safetensors").read_bytes() for each in (final, without)]
    assert weights[0] == weights[1]
    train(config, run)
    assert len(calls(programs)) == 4


def test_an_evaluation_that_fails_costs_no_training_and_is_tried_again(
    programs: Path, config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (programs / "broken").write_text("step_000004")
    final = train(config, tmp_path / "run")
    assert final.is_dir()
    told = capsys.readouterr().err
    assert (
        "step 4: no evaluation in simulation: policy-server ended with exit code 1 before it was "
        "ready: policy-server: no weights here" in told
    )
    assert "step 5 in simulation: ReachTheSquare 3 of 10" in told
    (programs / "broken").unlink()
    train(config, tmp_path / "run")
    assert calls(programs)[-2:] == ["step_000005", "step_000004"]
    assert "step 4 in simulation" in capsys.readouterr().err


@pytest.mark.slow
def test_of_two_ranks_one_evaluates_and_the_other_waits_longer_than_for_a_step(
    programs: Path, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", PYTHON)
    shared = replace(config, num_steps=4, save_state_every=4)
    # Of step 2, until the other rank has looked so many times, twice a second, how the first fares:
    # for longer than they wait for each other in a step.
    os.mkfifo(programs / "held")
    plan = ranks.run(shared, tmp_path / "run", "release", step=100) | {"programs": str(programs)}
    notes = ranks.torchrun([plan], tmp_path)
    assert [[run["exit_code"] for run in each] for each in notes.by_rank] == [[0], [0]], (
        notes.stderr
    )
    assert calls(programs) == ["step_000002", "step_000004"]
    for step in (2, 4):
        assert notes.stderr.count(f"step {step} in simulation: ReachTheSquare 3 of 10") == 1
    told = json.loads((tmp_path / "run" / "evaluations" / "step_000004" / "told.json").read_text())
    assert told["tasks"]["ReachTheSquare"]["successes"] == 3


@pytest.mark.slow
def test_what_the_first_rank_cannot_evaluate_ends_all_with_the_same_error(
    programs: Path, config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", PYTHON)
    asked = replace(config, evaluate=replace(config.evaluate, tasks=("ReachTheSquares",)))
    plan = ranks.run(asked, tmp_path / "run") | {"programs": str(programs)}
    notes = ranks.torchrun([plan], tmp_path)
    assert [[run["exit_code"] for run in each] for each in notes.by_rank] == [[2], [2]], (
        notes.stderr
    )
    assert notes.stderr.count("no task 'ReachTheSquares'") == 1
    assert "dead or hangs" not in notes.stderr


@pytest.mark.slow
def test_the_programs_themselves_evaluate_and_end_with_a_run_that_is_killed(tmp_path: Path) -> None:
    demonstrations, run = tmp_path / "demonstrations", tmp_path / "run"
    recording = ["sim-client", "demos", "--task", "PickAndPlaceBox", "--num", "3"]
    recording += ["--cameras", "scene_right_0,wrist_right_minus", "--image-size", "48x48"]
    subprocess.run(
        [PROGRAMS / recording[0], *recording[1:], "--output", demonstrations], check=True
    )
    command = [PROGRAMS / "trainer", "train", "smoke", "--data", demonstrations, "--output", run]
    command += ["--evaluate.every", "10", "--evaluate.episodes", "1000000:1000001"]
    family: list[psutil.Process] = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as killed:
        assert killed.stderr is not None
        try:
            # The second is served when the first is done.
            for line in killed.stderr:
                if "step 10 in simulation: PickAndPlaceBox" in line:
                    break
            family = psutil.Process(killed.pid).children(recursive=True)
        finally:
            killed.kill()
    _, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "step 10 in simulation" not in done.stderr
    assert "step 20 in simulation: PickAndPlaceBox" in done.stderr
    for step in ("step_000010", "step_000020"):
        (line,) = (run / "evaluations" / step / "ledger.jsonl").read_text().splitlines()
        assert json.loads(line)["seed"] == 101_000_100


def _no_simulator(programs: Path) -> None:
    (programs / "sim-client").unlink()


def _no_module(programs: Path) -> None:
    (programs / "sim-client").write_text("#!/bin/sh\necho 'pydrake is missing' >&2\nexit 2\n")


def _no_server(programs: Path) -> None:
    (programs / "broken").write_text("hold")


@pytest.mark.parametrize(
    ("spoil", "options", "message"),
    [
        (_no_simulator, {}, "sim-client is not installed here: pip install '..sim.' in Assay's"),
        (_no_module, {}, "sim-client tasks ended with exit code 2: pydrake is missing"),
        (_no_server, {}, "policy-server serve ended with exit code 1: policy-server: no weights"),
        (
            lambda _: None,
            {"tasks": ("ReachTheSquares",)},
            "evaluate.tasks: .* no task 'ReachTheSquares' .did you mean 'ReachTheSquare'",
        ),
        (lambda _: None, {"device": "cuda"}, "evaluate.device: 'cuda' asked for"),
    ],
)
def test_what_cannot_be_evaluated_is_told_before_the_first_step(
    spoil: Callable[[Path], None],
    options: dict[str, Any],
    message: str,
    programs: Path,
    config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setenv("PATH", str(programs))
    spoil(programs)
    asked = replace(config, evaluate=replace(config.evaluate, **options))
    with pytest.raises(ConfigurationError, match=message):
        train(asked, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"every": 0}, "evaluate.every"),
        ({"episodes": "10:10"}, "evaluate.episodes"),
        ({"episodes": "0:99999999999"}, "evaluate.episodes"),
        ({"workers": 0}, "workers"),
        ({"device": "tpu"}, "evaluate.device"),
        ({"tasks": ("A", "A")}, "evaluate.tasks"),
        ({"tasks": ("--help",)}, "evaluate.tasks"),
    ],
)
def test_a_field_that_cannot_be_is_named(options: dict[str, Any], field: str) -> None:
    with pytest.raises(ConfigurationError, match=field):
        EvaluateConfig(**options)


def test_a_run_from_before_there_were_evaluations_is_read(config: TrainConfig) -> None:
    fields = json.loads(config_to_json(config))
    del fields["evaluate"]
    assert config_from_json(json.dumps(fields)) == replace(config, evaluate=EvaluateConfig())
