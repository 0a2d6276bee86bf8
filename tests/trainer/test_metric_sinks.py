"""Where a run's numbers go, besides TensorBoard's files."""

from __future__ import annotations

import importlib.machinery
import json
import math
import os
import sqlite3
import sys
import types
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.trainer.steps import call_after_step, train_until
from trainer.command_line import main
from trainer.configuration_json import config_to_json
from trainer.metric_sinks import MetricSinks
from trainer.policy_configuration import TrainConfig
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory
from trainer.training_loop import train


class FakeTracker(types.ModuleType):
    """The part of W&B's and Trackio's interface that is used. fails_at: a step."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = importlib.machinery.ModuleSpec(name, None)
        self.begun: list[dict[str, Any]] = []
        self.logged: list[tuple[int, dict[str, Any]]] = []
        self.num_finished = 0
        self.fails_at: int | None = None

    def init(self, **words: Any) -> FakeTracker:
        if words["project"] == "":
            raise RuntimeError("no project")
        self.begun.append(words)
        return self

    def log(self, values: dict[str, Any], *, step: int) -> None:
        if self.fails_at is not None and step >= self.fails_at:
            raise ConnectionError("the service is gone\nand more")
        self.logged.append((step, values))

    def finish(self) -> None:
        self.num_finished += 1

    @staticmethod
    def Image(pixels: Any) -> tuple[str, Any]:
        return ("image", pixels.shape)


@pytest.fixture
def tracker(monkeypatch: pytest.MonkeyPatch) -> FakeTracker:
    fake = FakeTracker("wandb")
    monkeypatch.setitem(sys.modules, "wandb", fake)
    return fake


def lines_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line, parse_constant=pytest.fail) for line in lines]


def test_a_run_that_goes_back_has_each_step_once_in_its_lines(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Killed(BaseException):
        pass

    def die() -> None:
        with (tmp_path / "killed" / "metrics.jsonl").open("ab") as file:
            file.write(b'{"step": 1, "train/lo')
        raise Killed

    train(tiny_config, tmp_path / "whole")
    with monkeypatch.context() as patched:
        # Step 10 has been told of; the last save is that of step 8.
        call_after_step(patched, 11, die)
        with pytest.raises(Killed):
            train(tiny_config, tmp_path / "killed")
    train(tiny_config, tmp_path / "killed")

    whole, killed = lines_of(tmp_path / "whole"), lines_of(tmp_path / "killed")
    assert [line["step"] for line in killed] == [4, 6, 10, 12]
    learnt = ("train/loss", "train/gradient_norm", "validation/position_mm")
    for one, other in zip(whole, killed, strict=True):
        assert one.keys() == other.keys() >= {"unix_time_s", "train/samples_per_s", *learnt[:2]}
        assert ("validation/position_mm" in one) == (one["step"] != 10)
        assert [one.get(name) for name in learnt] == [other.get(name) for name in learnt]


def test_lines_are_json_whatever_the_numbers(tiny_config: TrainConfig, tmp_path: Path) -> None:
    with MetricSinks(tiny_config, RunDirectory(root=tmp_path), 1) as sinks:
        sinks.add_scalars({"a": math.inf, "b": math.nan, "c": 0.5}, 20)
        sinks.add_late_scalars({"d": 1.0}, 10, 20)
        told = lines_of(tmp_path)
    numbers = [{k: v for k, v in line.items() if k != "unix_time_s"} for line in told]
    assert numbers == [{"step": 20, "a": None, "b": None, "c": 0.5}, {"step": 10, "d": 1.0}]


def test_a_tracker_is_told_what_tensorboard_is_told_and_goes_on_with_the_run(
    tracker: FakeTracker,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    train_until(tiny_config, tmp_path / "run", monkeypatch, 7, tracker="wandb")
    train(tiny_config, tmp_path / "run", tracker="wandb")
    first, second = tracker.begun
    assert first["id"] == second["id"]
    assert first["config"]["optimizer.learning_rate"] == 2e-3
    assert tracker.num_finished == 2
    steps = {name: [] for _, values in tracker.logged for name in values}
    for at, values in tracker.logged:
        for name in values:
            steps[name].append(at)
    assert steps["validation/position_mm"] == [4, 6, 12]
    assert steps["train/loss"] == [4, 6, 10, 12]
    assert steps["samples/plans"] == [12]


def test_a_tracker_that_fails_is_told_of_once_and_costs_no_training(
    tracker: FakeTracker,
    tiny_config: TrainConfig,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    tracker.fails_at = 6
    checkpoint = train(tiny_config, tmp_path / "run", tracker="wandb")
    assert checkpoint.is_dir()
    assert {step for step, _ in tracker.logged} == {4}
    told = capsys.readouterr().err
    assert told.count("wandb is left out from here on: the service is gone") == 1
    assert "and more" not in told


@pytest.mark.parametrize("name", ["wandb", "trackio"])
def test_a_library_that_is_not_there_is_one_line_before_anything_is_written(
    name: str,
    tiny_config: TrainConfig,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    recipe = tmp_path / "recipe.json"
    recipe.write_text(config_to_json(tiny_config))
    arguments = ["train", str(recipe), "--output", str(tmp_path / "run"), "--tracker", name]
    assert main(arguments) == 2
    told = capsys.readouterr().err.splitlines()
    assert told == [
        f"trainer: tracker: {name} is not installed: pip install '.[{name}]' in Assay's checkout, "
        "or leave --tracker out; TensorBoard's files are written anyway"
    ]
    assert not (tmp_path / "run").exists()


def test_a_tracker_that_cannot_begin_stops_the_run(
    tracker: FakeTracker, tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.metric_sinks._DEFAULT_PROJECT", "")
    with pytest.raises(ConfigurationError, match="tracker: wandb cannot begin: no project"):
        train(tiny_config, tmp_path / "run", tracker="wandb")


@pytest.mark.slow
def test_wandb_itself_keeps_a_run_offline(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.setenv("HOME", os.fspath(tmp_path))
    short = replace(tiny_config, num_steps=6, checkpoint_steps=())
    train(short, tmp_path / "run", tracker="wandb")
    (record,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    content = record.read_bytes()
    for name in (b"train/loss", b"validation/position_mm", b"optimizer.learning_rate"):
        assert name in content


@pytest.mark.slow
def test_trackio_itself_keeps_a_run_here_and_goes_on_with_it(
    tiny_config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Read when it is imported.
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))
    pytest.importorskip("trackio")
    train_until(tiny_config, tmp_path / "run", monkeypatch, 7, tracker="trackio")
    train(tiny_config, tmp_path / "run", tracker="trackio")
    with closing(sqlite3.connect(tmp_path / "trackio" / "assay.db")) as database:
        rows = database.execute(
            "SELECT run_name, step, metrics FROM metrics ORDER BY id"
        ).fetchall()
    assert len({name for name, _, _ in rows}) == 1
    told = [(step, json.loads(values)) for _, step, values in rows]
    assert [step for step, values in told if "train/loss" in values] == [4, 6, 10, 12]
    assert [step for step, values in told if "samples/plans" in values] == [12]
