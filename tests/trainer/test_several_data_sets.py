"""Policies trained on several data sets at once."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from policy_interface.contract import Contract
from policy_interface.demonstration import (
    Demonstration,
    demonstration_path,
    save_demonstration,
)
from tests.trainer.steps import assert_same_weights, train_until
from trainer.checkpoint import read_checkpoint
from trainer.command_line import main
from trainer.data.batches import TrainingData
from trainer.data.errors import DataError
from trainer.data.robot_recordings import read_recordings
from trainer.data.robot_sources import _names, open_robot_data, robot_sources
from trainer.plotting.quantities import quantity_of
from trainer.policy_configuration import TrainConfig
from trainer.policy_learner import PolicyLearner
from trainer.requirements import ConfigurationError
from trainer.run_directory import RunDirectory, RunError
from trainer.stages.catalog import open_stage
from trainer.stages.policy import PolicyStage
from trainer.training_loop import train


@pytest.fixture(scope="module")
def config(
    tiny_config: TrainConfig,
    make_demonstration: Callable[..., Demonstration],
    tmp_path_factory: pytest.TempPathFactory,
) -> TrainConfig:
    """Ten episodes, and five of another folder that are twice as long."""
    folder = tmp_path_factory.mktemp("more") / "longer"
    folder.mkdir()
    for index in range(5):
        demonstration = make_demonstration(100 + index, num_steps=28)
        save_demonstration(demonstration, demonstration_path(folder, index))
    return replace(
        tiny_config, more_data=(f"{folder}=3",), num_steps=8, validation_every=8, batch_size=16
    )


@pytest.fixture(scope="module")
def finished(config: TrainConfig, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config, tmp_path_factory.mktemp("several") / "run")


def test_weights_are_honoured_sample_by_sample(config: TrainConfig) -> None:
    recordings = read_recordings(open_robot_data(config), None)
    sources = robot_sources(config, recordings)
    assert [source.weight for source in sources] == [1.0, 3.0]
    assert [len(source.training) for source in sources] == [8, 4]
    assert sources[1].held_out == [14]
    wide = replace(config, batch_size=512)
    with TrainingData(recordings, sources, wide, torch.device("cpu")) as data:
        (windows,) = data._loader.batches(0, 1)
    part = np.mean(windows.episode >= 10)
    # Of 512 draws with a probability of 3/4 the part's deviation is 0.019.
    assert part == pytest.approx(0.75, abs=0.08)
    trained = {recordings.episodes[place] for source in sources for place in source.training}
    assert set(windows.episode.tolist()) == trained


@pytest.mark.parametrize(
    ("first", "second", "names"),
    [
        ("demos/box", "demos/mug", ["box", "mug"]),
        ("runs/box/demonstrations", "runs/mug/demonstrations", ["box", "mug"]),
        ("demonstrations", "mug/demonstrations", ["demonstrations", "mug/demonstrations"]),
        ("hf://lab/box", "hf://lab/mug", ["box", "mug"]),
    ],
)
def test_data_sets_go_by_what_tells_them_apart(first: str, second: str, names: list[str]) -> None:
    assert _names([first, second]) == names
    assert _names([first]) == [Path(first).name]


def test_each_data_set_is_measured(finished: Path) -> None:
    events = EventAccumulator(str(finished.parent.parent / "tensorboard")).Reload()
    tags = events.Tags()["scalars"]
    assert "validation/position_mm" in tags
    assert "validation/longer_position_mm" in tags
    assert "train/loss_longer" in tags
    assert quantity_of("train/loss_mug/demonstrations").title == "Loss of mug/demonstrations"
    provenance = read_checkpoint(finished).provenance
    assert provenance["num_episodes"] == 15
    assert provenance["num_training_episodes"] == 12


@pytest.mark.parametrize("micro_batch_size", [None, 4])
def test_each_data_sets_loss_is_that_of_its_windows(
    config: TrainConfig,
    micro_batch_size: int | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    errors, counts = np.zeros(2), np.zeros(2)
    own_loss = PolicyLearner.loss

    def loss(self, batch, *draws):
        result = own_loss(self, batch, *draws)
        (source,), num_valid = batch.source.tolist(), float(batch.valid.detach().sum())
        errors[source] += float(result.detach()) * num_valid
        counts[source] += num_valid
        return result

    def first_losses(config: TrainConfig) -> Mapping[str, float]:
        with open_stage(config, RunDirectory(root=tmp_path))() as stage:
            return stage.step(next(iter(stage.batches(0, 1))), 0).result.losses

    told = first_losses(replace(config, micro_batch_size=micro_batch_size))
    monkeypatch.setattr(PolicyLearner, "loss", loss)
    first_losses(replace(config, micro_batch_size=1))
    assert list(told) == [Path(config.data).name, "longer"]
    assert list(told.values()) == pytest.approx(errors / counts, rel=1e-5)


def test_many_data_sets_are_no_page_of_names(
    config: TrainConfig, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = config.more_data[0].partition("=")[0]
    copies = [shutil.copytree(folder, tmp_path / f"part_{number}") for number in range(7)]
    config = replace(config, more_data=tuple(f"{each}=1" for each in copies), batch_size=64)
    train(config, tmp_path / "run")
    told = capsys.readouterr().err
    assert "training on 8 data sets, " in told
    assert "part_3" not in told
    events = EventAccumulator(str(tmp_path / "run" / "tensorboard")).Reload()
    assert "validation/part_3_position_mm" in events.Tags()["scalars"]


def test_short_episodes_are_measured_beside_long_ones(
    tiny_config: TrainConfig, make_demonstration: Callable[..., Demonstration], tmp_path: Path
) -> None:
    lengths = {"long": 600, "short": 20, "longer": 620}
    for name, num_steps in lengths.items():
        (tmp_path / name).mkdir()
        for index in range(5):
            # The last one is held out.
            demonstration = make_demonstration(index, num_steps=num_steps if index == 4 else 2)
            save_demonstration(demonstration, demonstration_path(tmp_path / name, index))
    first, *others = (str(tmp_path / name) for name in lengths)
    config = replace(tiny_config, data=first, more_data=tuple(f"{each}=1" for each in others))
    with open_stage(config, RunDirectory(root=tmp_path / "run"))() as stage:
        measurement = stage.measure()
        assert isinstance(stage, PolicyStage)
        assert stage._plans is not None
        episodes, anchors = stage._plans.episode, stage._plans.anchor
    assert measurement is not None
    assert all(np.isfinite(measurement.scalars[f"{name}_position_mm"]) for name in lengths)
    # A third of 96 each, or all that there are.
    numbers, counts = np.unique(episodes, return_counts=True)
    assert dict(zip(numbers.tolist(), counts.tolist(), strict=True)) == {4: 32, 9: 20, 14: 32}
    for number, num_steps in zip(numbers, lengths.values(), strict=True):
        own = anchors[episodes == number]
        assert (own[0], own[-1]) == (0, num_steps - 1)


def test_its_plans_are_drawn_on_what_was_held_out(finished: Path, tmp_path: Path) -> None:
    assert main(["predict", str(finished), "--output", str(tmp_path)]) == 0
    page = (tmp_path / "predictions.html").read_text()
    assert "longer" in page


def test_a_resume_gives_the_same_bits(
    config: TrainConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(config, tmp_path / "run", monkeypatch, 5)
    again = read_checkpoint(train(config, tmp_path / "run"))
    assert_same_weights(again.weights, read_checkpoint(finished).weights)


def test_data_may_move_but_not_weigh_otherwise(
    config: TrainConfig, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    train_until(config, tmp_path / "run", monkeypatch, 5)
    folder = config.more_data[0].partition("=")[0]
    first = shutil.copytree(config.data, tmp_path / "first")
    second = shutil.copytree(folder, tmp_path / "second")
    moved = replace(config, data=str(first), more_data=(f"{second}=3.0",))
    heavier = replace(moved, more_data=(f"{second}=4",))
    with pytest.raises(RunError, match=r"more_data: .*=3'\], now .*=4'\]"):
        train(heavier, tmp_path / "run")
    again = read_checkpoint(train(moved, tmp_path / "run"))
    assert_same_weights(again.weights, read_checkpoint(finished).weights)
    # What they hold counts.
    train_until(config, tmp_path / "other", monkeypatch, 5)
    turned = replace(config, data=str(second), more_data=(f"{first}=3",))
    with pytest.raises(RunError, match="not those that the run began with"):
        train(turned, tmp_path / "other")


def test_a_run_that_drew_in_another_order_does_not_go_on(
    config: TrainConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = tmp_path / "run"
    train_until(config, run, monkeypatch, 5)
    (facts,) = (run / "training_state").glob("*/state.json")
    state = json.loads(facts.read_text())
    # Runs of one data set, and all from before there was another order, have that of the data.
    state["data_digest"] = open_robot_data(config).digest
    facts.write_text(json.dumps(state))
    with pytest.raises(RunError, match="order") as refused:
        train(config, run)
    assert "\n" not in str(refused.value)


def test_data_of_another_station_are_refused(
    tiny_config: TrainConfig, make_demonstration: Callable[..., Demonstration], tmp_path: Path
) -> None:
    own = make_demonstration(0)
    other = Contract(cameras=own.contract.cameras, control_rate_hz=20.0)
    folder = tmp_path / "other"
    folder.mkdir()
    save_demonstration(make_demonstration(0, contract=other), demonstration_path(folder, 0))
    with pytest.raises(DataError, match=r"another contract than the episodes before it.*20"):
        train(replace(tiny_config, more_data=(f"{folder}=1",)), tmp_path / "run")
    with pytest.raises(DataError, match="gone"):
        train(replace(tiny_config, more_data=(f"{tmp_path / 'gone'}=1",)), tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("more", ["mugs", "mugs=0", "mugs=-1"])
def test_weights_that_are_none_are_refused(tiny_config: TrainConfig, more: str) -> None:
    with pytest.raises(ConfigurationError, match="more_data: expected"):
        replace(tiny_config, more_data=(more,))
