"""Robots' motion out of data of any format, and the batches that a policy learns from."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from policy_interface.contract import END_EFFECTOR_FRAME, Contract, ImageSize
from policy_interface.demonstration import (
    Demonstration,
    demonstration_path,
    save_demonstration,
)
from trainer.data.batches import Batch, TrainingData
from trainer.data.configuration import AugmentationConfig, LoaderConfig
from trainer.data.episode import Field, FieldKind, FieldRole
from trainer.data.errors import DataError
from trainer.data.formats.catalog import open_dataset
from trainer.data.formats.memory import ArrayEpisode, MemoryDataset
from trainer.data.robot_recordings import RobotRecordings, read_recordings
from trainer.data.robot_sources import RobotSource
from trainer.models.policy_network import images_to_input
from trainer.policy_configuration import TrainConfig
from trainer.requirements import ConfigurationError


def load(folder: Path, cameras: list[str] | None = None) -> RobotRecordings:
    return read_recordings(open_dataset(folder), cameras)


def test_motion_of_all_episodes_lies_one_after_the_other(
    demonstration_folder: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    loaded = load(demonstration_folder, ["wrist"])
    assert list(loaded.contract.cameras) == ["wrist"]
    assert loaded.num_episodes == 10
    assert loaded.seeds == tuple(range(100, 110))
    episode = make_demonstration(3)
    rows = slice(loaded.episode_starts[3], loaded.episode_starts[4])
    for i, arm in enumerate(loaded.contract.arms):
        np.testing.assert_array_equal(loaded.action_poses[rows, i], episode.action.poses[arm])
        np.testing.assert_array_equal(loaded.actual_poses[rows, i], episode.actual.poses[arm])
    for i, gripper in enumerate(loaded.contract.grippers):
        np.testing.assert_array_equal(
            loaded.action_widths_m[rows, i], episode.action.gripper_widths_m[gripper]
        )


def test_failed_episodes_are_left_out(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    for index, success in enumerate([True, False, True]):
        save_demonstration(
            make_demonstration(index, success=success), demonstration_path(tmp_path, index)
        )
    loaded = load(tmp_path)
    assert loaded.seeds == (100, 102)
    assert loaded.episodes == (0, 2)
    assert loaded.num_failed == 1


def test_only_failures_are_an_error(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0, success=False), demonstration_path(tmp_path, 0))
    with pytest.raises(DataError, match="none of the 1 episodes succeeded"):
        load(tmp_path)


def test_recordings_under_different_contracts_do_not_mix(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0), demonstration_path(tmp_path, 0))
    other = replace(make_demonstration(0).contract, control_rate_hz=20.0)
    save_demonstration(make_demonstration(1, contract=other), demonstration_path(tmp_path, 1))
    with pytest.raises(DataError, match=r"episode_000001.*control rate.*20\.0.*10\.0"):
        load(tmp_path)


def test_a_camera_in_one_recording_only_is_no_reason_to_go_on(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0), demonstration_path(tmp_path, 0))
    more = Contract(
        cameras={**make_demonstration(0).contract.cameras, "b": ImageSize(height=32, width=32)}
    )
    save_demonstration(make_demonstration(1, contract=more), demonstration_path(tmp_path, 1))
    with pytest.raises(DataError, match="another contract"):
        load(tmp_path)


def test_of_cameras_that_are_chosen_a_recording_may_have_others_beside_them(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    own = make_demonstration(0)
    size = ImageSize(height=32, width=32)
    more = replace(own.contract, cameras={"b": size, **own.contract.cameras})
    for seed, contract in enumerate((own.contract, more)):
        demonstration = make_demonstration(seed, contract=contract)
        save_demonstration(demonstration, demonstration_path(tmp_path, seed))
    loaded = load(tmp_path, ["wrist"])
    assert loaded.num_episodes == 2
    assert list(loaded.contract.cameras) == ["wrist"]
    # The first recording has no such camera; the second lacks one that the first has.
    with pytest.raises(ConfigurationError, match="'b' missing"):
        load(tmp_path, ["b"])
    less = replace(own.contract, cameras={"b": size})
    save_demonstration(make_demonstration(2, contract=less), demonstration_path(tmp_path, 2))
    with pytest.raises(DataError, match=r"episode_000002.*another contract.*camera 'wrist'"):
        load(tmp_path, ["wrist"])


def test_a_camera_that_was_not_recorded_is_named_with_those_that_were(
    demonstration_folder: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"'wrst' missing.*'scene.right'.*mean 'wrist'"):
        load(demonstration_folder, ["wrst"])


def test_a_cut_file_is_an_error_that_names_it(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    path = demonstration_path(tmp_path, 0)
    save_demonstration(make_demonstration(0), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DataError, match="episode_000000"):
        load(tmp_path)


def test_the_digest_follows_the_data_and_its_images(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    path = demonstration_path(tmp_path, 0)
    demonstration = make_demonstration(0)
    save_demonstration(demonstration, path)
    before = load(tmp_path).digest
    assert load(tmp_path).digest == before
    demonstration.cameras["wrist"].rgb[3, 0, 0, 0] += 1
    save_demonstration(demonstration, path)
    assert load(tmp_path).digest != before


def split_pose_episode(**changes: object) -> ArrayEpisode:
    """As LBM's and Foundry's data is: translations and rotations apart, and no contract."""
    steps = 6
    rng = np.random.default_rng(0)

    def field(kind: FieldKind, role: FieldRole, shape: tuple[int, ...], **more) -> Field:
        part = "right::panda_hand" if kind == "gripper" else "right::panda"
        return Field(shape=shape, kind=kind, role=role, part=part, **more)

    fields = {}
    roles: tuple[FieldRole, ...] = ("observed", "action")
    for role in roles:
        xyz = rng.uniform(-1, 1, (steps, 3))
        six = np.tile([0.0, 1, 0, -1, 0, 0], (steps, 1))
        width = np.full((steps, 1), 0.04)
        fields[f"{role}/xyz"] = (field("translation", role, (3,), unit="m", frame="table"), xyz)
        fields[f"{role}/six"] = (field("rotation_6d_rows", role, (6,), frame="table"), six)
        fields[f"{role}/width"] = (field("gripper", role, (1,), unit="m"), width)
    for name, change in changes.items():
        described, values = fields[name.replace("__", "/")]
        fields[name.replace("__", "/")] = (replace(described, **change), values)  # type: ignore[arg-type]
    images = {"scene": rng.integers(0, 256, (steps, 40, 40, 3), dtype=np.uint8)}
    return ArrayEpisode.make("episode_000000", rate_hz=10.0, fields=fields, images=images)


def test_poses_are_put_together_from_translations_and_rotations() -> None:
    episode = split_pose_episode()
    loaded = read_recordings(MemoryDataset([episode]), None)
    assert loaded.contract == Contract(
        cameras={"scene": ImageSize(height=40, width=40)},
        arms=("right::panda",),
        grippers=("right::panda_hand",),
        frame="table",
        end_effector=END_EFFECTOR_FRAME,
        control_rate_hz=10.0,
    )
    np.testing.assert_array_equal(loaded.action_poses[:, 0, :3, 3], episode.read("action/xyz"))
    quarter = [[0, 1, 0], [-1, 0, 0], [0, 0, 1]]
    np.testing.assert_allclose(loaded.actual_poses[:, 0, :3, :3], np.tile(quarter, (6, 1, 1)))


def test_what_the_data_does_not_say_is_not_guessed() -> None:
    frameless = {name: {"frame": None} for name in ("action__xyz", "action__six")}
    with pytest.raises(DataError, match="does not say which frame poses are in"):
        read_recordings(MemoryDataset([split_pose_episode(**frameless)]), None)
    with pytest.raises(DataError, match=r"widths? in metres, got 1 of unit 'percent'"):
        read_recordings(
            MemoryDataset([split_pose_episode(action__width={"unit": "percent"})]), None
        )
    renamed = {f"action__{name}": {"part": "arm"} for name in ("xyz", "six")}
    with pytest.raises(DataError, match="which frame of the arm"):
        read_recordings(MemoryDataset([split_pose_episode(**renamed)]), None)
    with pytest.raises(DataError, match="no pose of role 'action'.*'observed/xyz'"):
        read_recordings(MemoryDataset([split_pose_episode(action__xyz={"kind": "vector"})]), None)


def test_a_number_that_is_none_is_found_before_training() -> None:
    episode = split_pose_episode()
    episode.read("action/xyz")[4, 1] = np.nan
    with pytest.raises(DataError, match="episode_000000, field 'action/xyz'.*at step 4"):
        read_recordings(MemoryDataset([episode]), None)


def first_episodes(count: int) -> list[RobotSource]:
    return [RobotSource(name="all", weight=1.0, training=range(count), held_out=())]


def one_batch(config: TrainConfig, step: int = 0) -> Batch:
    recordings = load(Path(config.data))
    with TrainingData(recordings, first_episodes(8), config, torch.device("cpu")) as data:
        return next(iter(data.batches(step, step + 1)))


def test_a_batch_is_a_function_of_seed_and_step(tiny_config: TrainConfig) -> None:
    first, again = one_batch(tiny_config, 5), one_batch(tiny_config, 5)
    others = one_batch(tiny_config, 6), one_batch(replace(tiny_config, seed=1), 5)
    assert torch.equal(first.proprioception, again.proprioception)
    for name, images in first.images.items():
        assert torch.equal(images, again.images[name])
        for other in others:
            assert not torch.equal(images, other.images[name])


def test_without_augmentation_a_policy_trains_on_what_it_is_served(
    tiny_config: TrainConfig,
) -> None:
    none = AugmentationConfig(shift_pixels=0, brightness=0, contrast=0, proprioception_noise=0)
    recordings = load(Path(tiny_config.data))
    config = replace(tiny_config, augmentation=none, batch_size=recordings.num_steps)
    for loader in (LoaderConfig(), LoaderConfig(cache_gib=0, num_workers=1)):
        with TrainingData(
            recordings, first_episodes(10), replace(config, loader=loader), torch.device("cpu")
        ) as data:
            (batch,) = data.batches(0, 1)
        # One epoch: every step once. Proprioception tells which one a sample is.
        expected = data.transform.encode_history(
            recordings.actual_poses[:, None],
            recordings.actual_widths_m[:, None],
            recordings.action_poses[:, None][:, :0],
            recordings.action_widths_m[:, None][:, :0],
        )
        distance = np.abs(batch.proprioception.numpy()[:, None] - expected).max(axis=2)
        rows = distance.argmin(axis=1)
        assert sorted(rows) == list(range(recordings.num_steps))
        assert distance.min(axis=1).max() < 1e-5
        starts = recordings.episode_starts
        for name, images in batch.images.items():
            for sample in range(0, len(rows), 7):
                episode = int(np.searchsorted(starts, rows[sample], side="right")) - 1
                frame = recordings.dataset.episode(recordings.episodes[episode]).frames(
                    name, [int(rows[sample] - starts[episode])]
                )
                served = images_to_input(torch.from_numpy(frame))[0]
                torch.testing.assert_close(images[sample], served, atol=1e-6, rtol=0)
