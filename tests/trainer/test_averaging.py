"""Policies of one beginning, averaged into one."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_interface.contract import RIGHT_ARM, Contract
from policy_interface.types import Observation
from trainer.checkpoint import Checkpoint, read_checkpoint, write_checkpoint
from trainer.command_line import main
from trainer.policy_loading import load_policy


@pytest.fixture
def other(trained_checkpoint: Path, tmp_path: Path) -> Path:
    """What the trained policy has become, each weight a little beside where it was."""
    return changed(trained_checkpoint, tmp_path / "other", nudged)


def changed(path: Path, output: Path, change: Callable[[Checkpoint], Checkpoint]) -> Path:
    write_checkpoint(change(read_checkpoint(path)), output)
    return output


def nudged(checkpoint: Checkpoint) -> Checkpoint:
    generator = torch.Generator().manual_seed(0)
    weights = {
        name: tensor + 1e-3 * torch.randn(tensor.shape, generator=generator)
        for name, tensor in checkpoint.weights.items()
    }
    return replace(checkpoint, weights=weights)


def test_as_much_of_each_as_was_asked_for(
    trained_checkpoint: Path,
    other: Path,
    make_observation: Callable[..., Observation],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "average"
    words = ["average", str(trained_checkpoint), str(other), "--output", str(output)]
    assert main([*words, "--shares", "1", "3"]) == 0
    assert capsys.readouterr().out.strip() == str(output)
    first, second, average = map(read_checkpoint, (trained_checkpoint, other, output))
    for name, tensor in average.weights.items():
        expected = 0.25 * first.weights[name] + 0.75 * second.weights[name]
        torch.testing.assert_close(tensor, expected)
        assert tensor.dtype == second.weights[name].dtype
    assert average.provenance["averaged"] == [
        {"digest": first.digest, "share": 0.25},
        {"digest": second.digest, "share": 0.75},
    ]
    # What was measured of another is not told of it.
    assert "held_out_action_error" in second.provenance
    assert "held_out_action_error" not in average.provenance
    assert main(["inspect", str(output)]) == 0
    (chunk,) = load_policy(output, batch_invariant=False).plan([[make_observation(0)]], [0])
    assert np.isfinite(chunk[0].poses[RIGHT_ARM].translation_m).all()


def fewer_weights(checkpoint: Checkpoint) -> Checkpoint:
    weights = dict(checkpoint.weights)
    weights.popitem()
    return replace(checkpoint, weights=weights)


def low_rank_updates(checkpoint: Checkpoint) -> Checkpoint:
    updates = {"head.lora_B.default.weight": torch.zeros(1)}
    return replace(checkpoint, weights={**checkpoint.weights, **updates})


def another_station(checkpoint: Checkpoint) -> Checkpoint:
    cameras = checkpoint.contract.cameras
    return replace(checkpoint, contract=Contract(cameras=cameras, control_rate_hz=20.0))


def another_scale(checkpoint: Checkpoint) -> Checkpoint:
    transform = checkpoint.transform
    action = replace(transform.action, scale=2 * transform.action.scale)
    return replace(checkpoint, transform=replace(transform, action=action))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (fewer_weights, "expected the tensors of the last one"),
        (another_station, "expected the station (contract.json) of the last one"),
        (another_scale, "expected the scales of states and actions (normalization.json) of"),
    ],
)
def test_what_is_no_policy_of_the_same_making_is_named(
    change: Callable[[Checkpoint], Checkpoint],
    said: str,
    trained_checkpoint: Path,
    other: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    differing = changed(trained_checkpoint, tmp_path / "differing", change)
    words = [str(differing), str(trained_checkpoint), str(other)]
    assert main(["average", *words, "--output", str(tmp_path / "average")]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"trainer: {differing}: {said}")
    assert not (tmp_path / "average").exists()


def test_low_rank_updates_are_not_averaged(
    trained_checkpoint: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folders = [
        str(changed(trained_checkpoint, tmp_path / name, low_rank_updates)) for name in ("a", "b")
    ]
    assert main(["average", *folders, "--output", str(tmp_path / "average")]) == 2
    assert "expected whole matrices, got low-rank updates" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["POLICY"], "expected two checkpoints or more"),
        (["POLICY", "POLICY"], "expected two checkpoints or more, each once"),
        (["POLICY", "OTHER", "--shares", "1"], "--shares: expected 2 positive numbers"),
        (["POLICY", "OTHER", "--shares", "1", "-1"], "--shares: expected 2 positive numbers"),
        (["POLICY", "OTHER", "--shares", "1", "nan"], "--shares: expected 2 positive numbers"),
        (["POLICY", "OTHER", "--shares", "1", "inf"], "--shares: expected 2 positive numbers"),
        (["POLICY", "OTHER", "--shares", "1e308", "1e308"], "--shares: expected 2 positive num"),
        (["POLICY", "GONE"], "gone: does not exist; expected the folder of a checkpoint"),
    ],
)
def test_bad_usage_is_one_line(
    words: list[str],
    said: str,
    trained_checkpoint: Path,
    other: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    folders = {
        "POLICY": str(trained_checkpoint),
        "OTHER": str(other),
        "GONE": str(tmp_path / "gone"),
    }
    output = ["--output", str(tmp_path / "average")]
    assert main(["average", *(folders.get(word, word) for word in words), *output]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert said in line
    assert not (tmp_path / "average").exists()


def test_nothing_is_overwritten(
    trained_checkpoint: Path, other: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "mine").mkdir()
    words = [str(trained_checkpoint), str(other), "--output", str(tmp_path / "mine")]
    assert main(["average", *words]) == 2
    assert f"--output: {tmp_path / 'mine'} is there already" in capsys.readouterr().err
