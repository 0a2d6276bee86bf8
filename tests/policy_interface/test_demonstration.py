"""A demonstration comes back bit for bit, or is refused; never half of one."""

import json
import os
from pathlib import Path

import numpy as np
import pytest

from policy_interface.contract import Contract, ImageSize
from policy_interface.demonstration import (
    Demonstration,
    DemonstrationError,
    demonstration_path,
    list_demonstrations,
    load_demonstration,
    save_demonstration,
)
from policy_interface.types import Action


@pytest.fixture
def demonstration(make_observation) -> Demonstration:
    observations = [make_observation(seed=step, time_s=step / 10) for step in range(4)]
    actions = [
        Action(poses=o.desired.poses, gripper_widths_m=o.desired.gripper_widths_m)
        for o in observations
    ]
    return Demonstration.from_steps(
        observations,
        actions,
        task="PickAndPlaceBox",
        scenario_index=7,
        seed=107,
        success=True,
        teacher="a test",
        contract=Contract(cameras={"scene_right_0": ImageSize(height=8, width=12)}),
        provenance={"software": "1"},
    )


def test_a_file_gives_the_demonstration_back(demonstration, tmp_path: Path) -> None:
    path = demonstration_path(tmp_path, 7)
    save_demonstration(demonstration, path)
    assert list_demonstrations(tmp_path) == [path]
    loaded = load_demonstration(path)
    for name in ("task", "instruction", "scenario_index", "seed", "contract", "provenance"):
        assert getattr(loaded, name) == getattr(demonstration, name)
    assert np.array_equal(loaded.time_s, demonstration.time_s)
    for name in ("actual", "desired", "action"):
        ours, theirs = getattr(demonstration, name), getattr(loaded, name)
        for part in ("poses", "gripper_widths_m", "joint_positions_rad"):
            one, other = getattr(ours, part), getattr(theirs, part)
            assert one.keys() == other.keys()
            assert all(np.array_equal(one[key], other[key]) for key in one)
    camera = loaded.cameras["scene_right_0"]
    assert np.array_equal(camera.rgb, demonstration.cameras["scene_right_0"].rgb)
    assert np.array_equal(camera.X_TC, demonstration.cameras["scene_right_0"].X_TC)


def test_a_cut_file_is_refused_at_every_length(demonstration, tmp_path: Path) -> None:
    path = demonstration_path(tmp_path, 7)
    save_demonstration(demonstration, path)
    whole = path.read_bytes()
    for length in range(0, len(whole), max(1, len(whole) // 60)):
        path.write_bytes(whole[:length])
        with pytest.raises(DemonstrationError, match=r"episode_000007\.npz"):
            load_demonstration(path)


def test_a_file_with_damaged_bytes_never_raises_anything_else(
    demonstration, tmp_path: Path
) -> None:
    path = demonstration_path(tmp_path, 7)
    save_demonstration(demonstration, path)
    whole = bytearray(path.read_bytes())
    generator = np.random.default_rng(0)
    refused = 0
    for _ in range(200):
        damaged = bytearray(whole)
        damaged[generator.integers(len(whole))] ^= int(generator.integers(1, 256))
        path.write_bytes(damaged)
        try:
            load_demonstration(path)
        except DemonstrationError:
            refused += 1
    assert refused > 100


def test_a_pickle_is_never_opened(demonstration, tmp_path: Path) -> None:
    path = demonstration_path(tmp_path, 7)
    save_demonstration(demonstration, path)
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays["time_s"] = np.array([{"harm": 1}], dtype=object)
    np.savez(path, **arrays)
    with pytest.raises(DemonstrationError, match="pickle"):
        load_demonstration(path)


@pytest.mark.parametrize(
    ("name", "value", "complaint"),
    [
        ("time_s", np.array([np.nan] * 4), "finite"),
        ("time_s", np.zeros(3), r"expected \(3, 4, 4\)"),
        ("actual/pose/right::panda", np.zeros((4, 4, 4)), "rotations"),
        ("action/width_m/right::panda_hand", np.zeros(4, np.float32), "float64"),
        ("camera/scene_right_0/rgb", np.zeros((4, 8, 12), np.uint8), "rgb"),
        ("metadata", np.array(json.dumps({"schema": "other/1"})), "schema 'other/1'"),
        ("metadata", np.array("{}"), "schema"),
    ],
)
def test_wrong_arrays_are_named(demonstration, tmp_path: Path, name, value, complaint) -> None:
    path = demonstration_path(tmp_path, 7)
    save_demonstration(demonstration, path)
    with np.load(path) as stored:
        arrays = dict(stored)
    arrays[name] = value
    np.savez(path, **arrays)
    with pytest.raises(DemonstrationError, match=complaint):
        load_demonstration(path)


def test_a_failed_write_leaves_nothing_behind(demonstration, tmp_path: Path, monkeypatch) -> None:
    def disk_full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space"):
        save_demonstration(demonstration, demonstration_path(tmp_path, 7))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_without_demonstrations_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "episode_1.npz").touch()
    with pytest.raises(DemonstrationError, match="no demonstrations"):
        list_demonstrations(tmp_path)
    with pytest.raises(DemonstrationError, match="no such folder"):
        list_demonstrations(tmp_path / "nowhere")
