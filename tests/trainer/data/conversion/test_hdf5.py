"""HDF5 in the layout that robomimic documents, made by h5py."""

from __future__ import annotations

import json
import os
from pathlib import Path

import h5py
import numpy as np
import pytest

from trainer.data.conversion import Source, convert
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.native_writer import NativeWriter


def write_file(path: Path, *, num_demos: int = 11, problem: bool = False) -> None:
    rng = np.random.default_rng(0)
    with h5py.File(path, "w") as root:
        data = root.create_group("data")
        data.attrs["total"] = 6 * num_demos
        data.attrs["env_args"] = json.dumps(
            {"env_name": "Lift", "type": 1, "env_kwargs": {"control_freq": 20}}
        )
        if problem:
            data.attrs["problem_info"] = json.dumps({"language_instruction": "lift the cube"})
        for number in range(num_demos):
            demo = data.create_group(f"demo_{number}")
            demo.attrs["num_samples"] = 6
            demo["actions"] = rng.standard_normal((6, 7))
            demo["states"] = rng.standard_normal((6, 32))
            demo["rewards"] = rng.random(6)
            demo["dones"] = np.array([0, 0, 0, 0, 0, 1])
            demo["action_dict/abs_pos"] = rng.random((6, 3)).astype(np.float32)
            demo["obs/robot0_eef_pos"] = rng.random((6, 3))
            demo["obs/robot0_gripper_qpos"] = rng.random((6, 2))
            demo["obs/agentview_depth"] = rng.random((6, 8, 10, 1))
            demo.create_dataset(
                "obs/agentview_image",
                data=rng.integers(0, 256, (6, 8, 10, 3), dtype=np.uint8),
                chunks=(1, 8, 10, 3),
                compression="gzip",
            )
            demo["next_obs/robot0_eef_pos"] = rng.random((6, 3))
        names = np.array(["demo_0", "demo_2"], dtype="S")
        root.create_dataset("mask/train", data=names)
        root.create_dataset("mask/all", data=[f"demo_{number}" for number in range(num_demos)])


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "lift.hdf5"
    write_file(path)
    return path


def test_an_episode_is_what_the_file_holds(file: Path) -> None:
    dataset = open_dataset(file)
    assert dataset.format_name == "hdf5"
    # In the order of their numbers.
    assert [episode.description.episode_id for episode in dataset][9:] == ["demo_9", "demo_10"]
    episode = dataset.episode(2)
    description = episode.description
    assert set(description.fields) == {
        "actions",
        "action_dict/abs_pos",
        "states",
        "rewards",
        "dones",
        "obs/robot0_eef_pos",
        "obs/robot0_gripper_qpos",
    }
    assert description.fields["actions"].role == "action"
    position = description.fields["obs/robot0_eef_pos"]
    assert (position.kind, position.role, position.unit) == ("translation", "observed", "m")
    assert position.part == "robot0"
    assert list(description.cameras) == ["agentview_image"]
    assert (description.task, description.rate_hz) == ("Lift", 20.0)
    assert description.success is None
    assert description.provenance["masks"] == "all, train"
    with h5py.File(file) as root:
        actions = np.array(root["data/demo_2/actions"])
        images = np.array(root["data/demo_2/obs/agentview_image"])
    np.testing.assert_array_equal(episode.read("actions", 2, 5), actions[2:5])
    np.testing.assert_array_equal(episode.frames("agentview_image", [4, 1, 4]), images[[4, 1, 4]])
    np.testing.assert_allclose(episode.times_s(), np.arange(6) / 20)


def test_a_folder_of_files_is_one_data_set_with_its_instructions(tmp_path: Path) -> None:
    for name in ("b", "a"):
        write_file(tmp_path / f"{name}.hdf5", num_demos=2, problem=True)
    dataset = open_dataset(tmp_path)
    names = [episode.description.episode_id for episode in dataset]
    assert names == ["a/demo_0", "a/demo_1", "b/demo_0", "b/demo_1"]
    assert dataset.episode(0).description.instructions == {"original": ("lift the cube",)}


def test_it_converts_exactly(file: Path, tmp_path: Path) -> None:
    convert(Source.at(file), NativeWriter(destination=tmp_path / "lift"))
    for before, after in zip(open_dataset(file), open_dataset(tmp_path / "lift"), strict=True):
        for name in before.description.fields:
            assert before.read(name).tobytes() == after.read(name).tobytes()


def test_a_cut_file_is_an_error(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)
    with pytest.raises(DataError, match=r"lift\.hdf5: cannot be read"):
        open_dataset(file)


def test_rows_that_disagree_name_episode_and_field(file: Path) -> None:
    with h5py.File(file, "r+") as root:
        del root["data/demo_1/obs/robot0_eef_pos"]
        root["data/demo_1/obs/robot0_eef_pos"] = np.zeros((5, 3))
    with pytest.raises(
        DataError, match=r"episode demo_1, field 'obs/robot0_eef_pos': has 5 rows.* 6 actions"
    ):
        open_dataset(file).episode(1)
    assert open_dataset(file).episode(2).description.num_steps == 6


def test_an_episode_without_actions_is_an_error(file: Path) -> None:
    with h5py.File(file, "r+") as root:
        del root["data/demo_3/actions"]
    with pytest.raises(DataError, match="episode demo_3: cannot be read: no array 'actions'"):
        open_dataset(file).episode(3)


def test_another_hdf5_file_is_not_taken_for_one(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "other.h5", "w") as root:
        root["numbers"] = np.zeros(3)
    with pytest.raises(DataError, match="no group 'data'"):
        open_dataset(tmp_path / "other.h5", "hdf5")


def test_without_a_rate_times_are_steps(tmp_path: Path) -> None:
    path = tmp_path / "plain.hdf5"
    with h5py.File(path, "w") as root:
        root["data/demo_0/actions"] = np.zeros((3, 2))
    episode = open_dataset(path, "hdf5").episode(0)
    assert episode.description.rate_hz is None
    assert episode.times_s().tolist() == [0.0, 1.0, 2.0]
