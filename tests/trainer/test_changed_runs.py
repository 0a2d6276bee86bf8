"""A run goes on with another configuration: what is safe is recorded and told, the rest refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.steps import train_until
from trainer.checkpoint import read_checkpoint
from trainer.configuration_changes import ConfigurationChange, with_changes_of
from trainer.configuration_json import config_from_json
from trainer.learner import TrainingDivergedError
from trainer.policy_configuration import TrainConfig
from trainer.run_directory import RunDirectory, RunError
from trainer.training_configuration import OptimizerConfig
from trainer.training_loop import resolve, train

Until = Callable[[TrainConfig, int], None]


@pytest.fixture
def run(tmp_path: Path) -> Path:
    return tmp_path / "run"


@pytest.fixture
def until(run: Path, monkeypatch: pytest.MonkeyPatch) -> Until:
    """Trains in the run's folder, stopped after so many optimizer steps."""
    return lambda config, count: train_until(config, run, monkeypatch, count)


def with_rate(config: TrainConfig, **changed: Any) -> TrainConfig:
    return replace(config, optimizer=replace(config.optimizer, **changed))


def recorded(run: Path) -> list[tuple[int, dict[str, Any]]]:
    changes = json.loads((run / "changes.json").read_text())
    return [(change["after_step"], change["fields"]) for change in changes]


def test_a_run_that_diverged_goes_on_at_a_lower_rate_from_its_last_save(
    tiny_config: TrainConfig, run: Path, until: Until, capsys: pytest.CaptureFixture[str]
) -> None:
    until(tiny_config, 5)
    wild = with_rate(tiny_config, learning_rate=1e30, max_gradient_norm=1e30)
    # It is measured after the first wild step.
    with pytest.raises(TrainingDivergedError, match="plans numbers that are not finite; a lower"):
        train(wild, run)
    wild = replace(wild, validation_every=12)
    for _ in range(2):
        with pytest.raises(TrainingDivergedError, match=r"with it the run goes on from its last"):
            train(wild, run)
    lower = with_rate(tiny_config, learning_rate=1e-3)
    final = train(lower, run)
    told = capsys.readouterr().err
    assert "on: optimizer.learning_rate 1e+30 in place of 0.002, optimizer.max_gradient" in told
    assert "from optimizer step 6 on: validation_every 6 in place of 12, optimizer.learning" in told
    assert f"; the learning rate goes from 0.00181 to 0.000798; {run}/changes.json has it" in told
    # One line each time that it is asked for something else, and then no more.
    assert told.count("changes.json has it") == 3
    # No step is left of the wild ones.
    assert recorded(run) == [(5, {"optimizer.learning_rate": [0.002, 0.001]})]
    assert config_from_json((run / "config.json").read_text()) == lower
    checkpoint = read_checkpoint(final)
    assert checkpoint.config == lower
    (change,) = checkpoint.provenance["configuration_changes"]
    assert change["after_step"] == 5
    earlier = read_checkpoint(run / "checkpoints/step_000004")
    assert "configuration_changes" not in earlier.provenance
    assert earlier.config == tiny_config


def test_a_run_whose_rate_has_not_fallen_yet_is_lengthened_to_the_same_bits(
    tiny_config: TrainConfig, tmp_path: Path, run: Path, until: Until
) -> None:
    short = with_rate(replace(tiny_config, num_steps=10), schedule="constant_decay")
    long = replace(short, num_steps=14)
    until(short, 7)
    one = read_checkpoint(train(long, run)).weights
    other = read_checkpoint(train(long, tmp_path / "long")).weights
    assert all(one[name].equal(tensor) for name, tensor in other.items())
    assert recorded(run) == [(7, {"num_steps": [10, 14]})]
    assert not (tmp_path / "long/changes.json").exists()


def test_a_finished_run_is_lengthened_and_keeps_what_it_had(
    tiny_config: TrainConfig, run: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = train(replace(tiny_config, num_steps=6, checkpoint_steps=()), run).resolve()
    longer = replace(tiny_config, num_steps=None, num_samples=8 * 12, checkpoint_steps=())
    assert train(longer, run).resolve().name == "step_000008"
    assert read_checkpoint(short).provenance["total_steps"] == 6
    told = capsys.readouterr().err
    assert "from optimizer step 7 on: num_steps None in place of 6, num_samples 96 in place" in told
    assert "; the learning rate goes from 0.000327 to 0.00053; " in told
    assert "8 steps, resumed at 6" in told
    with pytest.raises(RunError, match="at least the 8 optimizer steps that are done, got 7"):
        train(replace(longer, num_samples=7 * 12), run)
    with pytest.raises(RunError, match=r"all 8 .* done without optimizer\.learning_rate 0\.5; ask"):
        train(with_rate(longer, learning_rate=0.5), run)
    shutil.rmtree(run / "training_state")
    with pytest.raises(RunError, match="without its training_state, from which it would go on"):
        train(tiny_config, run)
    assert read_checkpoint(run / "checkpoints/final").provenance["optimizer_step"] == 8


def test_a_run_is_shortened_to_where_it_is(
    tiny_config: TrainConfig, run: Path, until: Until
) -> None:
    until(tiny_config, 5)
    final = train(replace(tiny_config, num_steps=5), run)
    assert read_checkpoint(final).provenance["optimizer_step"] == 5


@pytest.mark.parametrize(("before", "after"), [(None, 20.0), (20.0, None)])
def test_a_guard_is_set_up_or_given_up_as_a_run_goes_on(
    tiny_config: TrainConfig, run: Path, until: Until, before: float | None, after: float | None
) -> None:
    until(with_rate(tiny_config, spike_factor=before), 5)
    train(with_rate(tiny_config, spike_factor=after), run)
    assert recorded(run) == [(5, {"optimizer.spike_factor": [before, after]})]
    train(with_rate(tiny_config, spike_factor=after), run)


def test_what_a_run_cannot_go_on_with_is_refused_with_the_reason(
    tiny_config: TrainConfig, run: Path, until: Until
) -> None:
    until(tiny_config, 5)
    with pytest.raises(RunError, match=r"\(batch_size: 12, now 6 \(the place in the data is cou"):
        train(replace(tiny_config, batch_size=6, save_state_every=2), run)
    assert config_from_json((run / "config.json").read_text()) == tiny_config
    (run / "changes.json").write_text('[{"after_step": 3}]')
    with pytest.raises(RunError, match=r"changes\.json: not changes of a configuration: KeyErr"):
        train(tiny_config, run)


def test_a_run_keeps_the_precision_and_device_that_it_began_with(tiny_config: TrainConfig) -> None:
    asked = replace(tiny_config, precision="auto", device="auto")
    for precision in ("float32", "bfloat16"):
        begun = replace(tiny_config, precision=precision)
        assert resolve(asked, begun) == begun


def test_changes_with_which_no_step_was_taken_are_as_if_never_made(
    tiny_config: TrainConfig, tmp_path: Path
) -> None:
    first, second, third = (
        replace(tiny_config, optimizer=OptimizerConfig(learning_rate=rate))
        for rate in (3e-3, 2e-3, 1e-3)
    )

    def changed(
        changes: list[ConfigurationChange], before: TrainConfig, now: TrainConfig, step: int
    ) -> list[ConfigurationChange]:
        return with_changes_of(changes, before, now, step=step, created="today")

    def rates(changes: list[ConfigurationChange]) -> list[tuple[int, Any]]:
        return [(each.after_step, each.fields["optimizer.learning_rate"]) for each in changes]

    once = changed([], first, second, 4)
    twice = changed(once, second, third, 8)
    assert rates(twice) == [(4, [3e-3, 2e-3]), (8, [2e-3, 1e-3])]
    assert changed(twice, third, third, 9) == twice
    # As the save of step 8 is lost, or the step is taken back.
    assert rates(changed(twice, third, third, 6)) == [(4, [3e-3, 2e-3]), (6, [2e-3, 1e-3])]
    assert changed(twice, third, second, 8) == once
    assert changed(twice, third, first, 4) == []
    assert changed(twice, third, second, 0) == []
    # What was recorded before the configuration itself is found by the next resume.
    assert changed(once, first, second, 4) == once
    run = RunDirectory(root=tmp_path)
    assert run.changes() == []
