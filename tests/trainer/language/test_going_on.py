"""A language training that was stopped goes on bit by bit."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from tests.trainer.language.runs import weights
from tests.trainer.steps import assert_same_weights, call_after_step, losses_from_here
from trainer.command_line import main
from trainer.configuration_json import config_to_json
from trainer.language_checkpoint import read_language_checkpoint
from trainer.language_configuration import LanguageTrainConfig
from trainer.training_loop import TrainingInterruptedError, train


@pytest.mark.parametrize("stop_at", [1, 5, 7])
def test_stopped_at_any_step_and_resumed_it_gives_the_same_losses(
    whole: tuple[Path, list[float]],
    config: LanguageTrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    stop_at: int,
) -> None:
    finished, expected = whole
    output = tmp_path / "run"
    with monkeypatch.context() as patched:
        seen = losses_from_here(patched)
        call_after_step(patched, stop_at, lambda: signal.raise_signal(signal.SIGINT))
        with pytest.raises(TrainingInterruptedError, match=f"step {stop_at} of 12"):
            train(config, output)
    assert not (output / "checkpoints" / "final").exists()
    with monkeypatch.context() as patched:
        rest = losses_from_here(patched)
        train(config, output)
    assert len(seen) == stop_at
    assert seen + rest == expected
    assert_same_weights(weights(output), weights(finished))


def test_a_killed_run_goes_on_from_its_last_save(
    finished: Path, config: LanguageTrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        raise Killed

    with monkeypatch.context() as patched:
        call_after_step(patched, 7, die)
        with pytest.raises(Killed):
            train(config, tmp_path / "run")
    (tmp_path / "run" / "checkpoints" / ".step_000012.x.partial").mkdir()
    # The run has its text; where it came from is not asked again.
    train(config, tmp_path / "run")
    assert_same_weights(weights(tmp_path / "run"), weights(finished))
    assert not list((tmp_path / "run" / "checkpoints").glob(".*"))


# Trains, but takes the fourth step only when its input has ended, so that it can't be done before a
# test has struck.
_STOPS_SHORT = """
import sys
from trainer.command_line import main
from trainer.learner import Learner

take_step = Learner.step

def take_step_when_told(self, batch, step, generator):
    if step == 3:
        sys.stdin.read()
    return take_step(self, batch, step, generator)

Learner.step = take_step_when_told
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ctrl_c_on_a_process_saves_and_the_same_command_ends_with_the_same_bits(
    finished: Path, config: LanguageTrainConfig, tmp_path: Path
) -> None:
    stored = tmp_path / "config.json"
    # Told after each step, so that there is a line to wait for; measuring changes no bit.
    stored.write_text(config_to_json(replace(config, validation_every=1)))
    arguments = ["train", str(stored), "--output", str(tmp_path / "run")]
    command = [sys.executable, "-c", _STOPS_SHORT, *arguments]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=environment
    ) as process:
        assert process.stderr is not None
        assert any(line.startswith("step 3/12") for line in process.stderr)
        process.send_signal(signal.SIGINT)
        _, rest = process.communicate()
    assert process.returncode == 130
    assert "the same command goes on from here" in rest
    assert list((tmp_path / "run" / "training_state").iterdir())
    assert main(arguments) == 0
    assert_same_weights(weights(tmp_path / "run"), weights(finished))


def test_accumulation_and_threads_change_rounding_and_nothing_else(
    config: LanguageTrainConfig, tmp_path: Path
) -> None:
    config = replace(config, num_steps=3, checkpoint_steps=())
    whole = train(replace(config, micro_batch_size=None), tmp_path / "whole")
    parts = train(replace(config, micro_batch_size=2, num_threads=2), tmp_path / "parts")
    other = read_language_checkpoint(parts).weights
    for name, tensor in read_language_checkpoint(whole).weights.items():
        torch.testing.assert_close(tensor, other[name], atol=2e-4, rtol=1e-3)
