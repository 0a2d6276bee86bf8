"""Demonstrations in memory, windows over them, batches of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from policy_interface.contract import Contract, ImageSize
from policy_interface.demonstration import (
    Demonstration,
    DemonstrationError,
    demonstration_path,
    save_demonstration,
)
from trainer.configuration import AugmentationConfig, ConfigurationError, TrainConfig
from trainer.data.augmentation import augmented_images, padded_frames
from trainer.data.batches import TrainingData, window_order
from trainer.data.demonstrations import load_demonstrations
from trainer.data.windows import make_windows, split_episodes
from trainer.models.policy_network import images_to_input


def test_frames_of_all_episodes_lie_one_after_the_other(
    demonstration_folder: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    loaded = load_demonstrations(demonstration_folder, ["wrist"])
    assert list(loaded.images) == list(loaded.contract.cameras) == ["wrist"]
    assert loaded.num_episodes == 10
    assert loaded.seeds == tuple(range(100, 110))
    episode = make_demonstration(3)
    frames = slice(loaded.episode_starts[3], loaded.episode_starts[4])
    np.testing.assert_array_equal(loaded.images["wrist"][frames], episode.cameras["wrist"].rgb)
    for i, arm in enumerate(loaded.contract.arms):
        np.testing.assert_array_equal(loaded.action_poses[frames, i], episode.action.poses[arm])
        np.testing.assert_array_equal(loaded.actual_poses[frames, i], episode.actual.poses[arm])


def test_failed_demonstrations_are_left_out(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    for index, success in enumerate([True, False, True]):
        save_demonstration(
            make_demonstration(index, success=success), demonstration_path(tmp_path, index)
        )
    loaded = load_demonstrations(tmp_path, None)
    assert loaded.seeds == (100, 102)
    assert loaded.num_failed == 1


def test_only_failures_are_an_error(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0, success=False), demonstration_path(tmp_path, 0))
    with pytest.raises(DemonstrationError, match="none of the 1 demonstrations succeeded"):
        load_demonstrations(tmp_path, None)


def test_recordings_under_different_contracts_do_not_mix(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0), demonstration_path(tmp_path, 0))
    other = replace(make_demonstration(0).contract, control_rate_hz=20.0)
    save_demonstration(make_demonstration(1, contract=other), demonstration_path(tmp_path, 1))
    with pytest.raises(DemonstrationError, match=r"episode_000001.*control rate.*20\.0.*10\.0"):
        load_demonstrations(tmp_path, None)


def test_a_camera_in_one_recording_only_is_no_reason_to_go_on(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0), demonstration_path(tmp_path, 0))
    more = Contract(
        cameras={**make_demonstration(0).contract.cameras, "b": ImageSize(height=32, width=32)}
    )
    save_demonstration(make_demonstration(1, contract=more), demonstration_path(tmp_path, 1))
    with pytest.raises(DemonstrationError, match="another contract"):
        load_demonstrations(tmp_path, None)


def test_a_camera_that_was_not_recorded_is_named_with_those_that_were(
    demonstration_folder: Path,
) -> None:
    with pytest.raises(ConfigurationError, match=r"'wrst' missing.*'scene.right'.*mean 'wrist'"):
        load_demonstrations(demonstration_folder, ["wrst"])


def test_a_cut_file_is_an_error_that_names_it(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    path = demonstration_path(tmp_path, 0)
    save_demonstration(make_demonstration(0), path)
    path.write_bytes(path.read_bytes()[:-500])
    with pytest.raises(DemonstrationError, match="episode_000000"):
        load_demonstrations(tmp_path, None)


def test_the_digest_follows_the_data(
    tmp_path: Path, make_demonstration: Callable[..., Demonstration]
) -> None:
    save_demonstration(make_demonstration(0), demonstration_path(tmp_path, 0))
    before = load_demonstrations(tmp_path, None).digest
    assert load_demonstrations(tmp_path, None).digest == before
    save_demonstration(make_demonstration(7), demonstration_path(tmp_path, 0))
    assert load_demonstrations(tmp_path, None).digest != before


@given(lengths=st.lists(st.integers(1, 9), min_size=1, max_size=6), chunk=st.integers(1, 12))
def test_windows_stay_in_their_episode_and_mask_what_lies_beyond(lengths, chunk) -> None:
    starts = np.cumsum([0, *lengths])
    windows = make_windows(starts, range(len(lengths)), chunk)
    assert windows.anchors.tolist() == list(range(starts[-1]))
    # The anchor's own action is the first of the chunk, and always real.
    assert (windows.steps[:, 0] == windows.anchors).all()
    assert windows.valid[:, 0].all()
    episode_of = np.repeat(np.arange(len(lengths)), lengths)
    assert (episode_of[windows.steps] == episode_of[windows.anchors][:, None]).all()
    to_end = starts[1:][episode_of[windows.anchors]] - windows.anchors
    assert (windows.valid.sum(1) == np.minimum(to_end, chunk)).all()
    assert (np.diff(windows.steps, axis=1) == windows.valid[:, 1:]).all()


@given(episodes=st.integers(1, 50), asked=st.integers(0, 60))
def test_held_out_episodes_are_the_last_and_never_most(episodes, asked) -> None:
    training, held_out = split_episodes(episodes, asked)
    assert [*training, *held_out] == list(range(episodes))
    assert len(held_out) <= asked
    assert len(training) >= 4 * len(held_out)
    assert len(training) >= 1


@given(windows=st.integers(1, 40), batch=st.integers(1, 17), seed=st.integers(0, 99))
def test_every_window_comes_once_an_epoch(windows, batch, seed) -> None:
    num_epochs = 3
    steps = range(-(-windows * num_epochs // batch))
    seen = np.concatenate(
        [window_order(step, batch, num_windows=windows, seed=seed) for step in steps]
    )[: windows * num_epochs]
    for epoch in seen.reshape(num_epochs, windows):
        assert sorted(epoch) == list(range(windows))


def test_a_batch_is_a_function_of_seed_and_step(tiny_config: TrainConfig) -> None:
    demonstrations = load_demonstrations(Path(tiny_config.data), None)

    def batch(seed: int, step: int):
        data = TrainingData.prepare(
            demonstrations, range(8), replace(tiny_config, seed=seed), torch.device("cpu")
        )
        return data.batch(step, data.generator(step))

    first, again, other_step, other_seed = batch(0, 5), batch(0, 5), batch(0, 6), batch(1, 5)
    assert torch.equal(first.proprioception, again.proprioception)
    for name, images in first.images.items():
        assert torch.equal(images, again.images[name])
        assert not torch.equal(images, other_step.images[name])
        assert not torch.equal(images, other_seed.images[name])


def test_without_augmentation_a_policy_trains_on_what_it_is_served(
    tiny_config: TrainConfig,
) -> None:
    none = AugmentationConfig(shift_pixels=0, brightness=0, contrast=0, proprioception_noise=0)
    demonstrations = load_demonstrations(Path(tiny_config.data), None)
    config = replace(tiny_config, augmentation=none)
    data = TrainingData.prepare(demonstrations, range(10), config, torch.device("cpu"))
    batch = data.batch(0, data.generator(0))
    chosen = window_order(0, 12, num_windows=demonstrations.num_frames, seed=config.seed)
    for name, images in demonstrations.images.items():
        served = images_to_input(torch.from_numpy(images[chosen]))
        torch.testing.assert_close(batch.images[name], served, atol=1e-6, rtol=0)
    expected = data.transform.encode_proprioception(
        demonstrations.actual_poses[chosen], demonstrations.actual_widths_m[chosen]
    )
    torch.testing.assert_close(batch.proprioception, torch.from_numpy(expected).float())


def test_a_shift_moves_pixels_and_repeats_edges() -> None:
    config = AugmentationConfig(shift_pixels=3, brightness=0, contrast=0)
    ramp = torch.arange(32, dtype=torch.uint8)
    frames = torch.stack(
        [ramp[:, None].expand(32, 40), ramp.new_zeros(32, 40), ramp[:, None].expand(32, 40)], -1
    )[None]
    images = augmented_images(
        padded_frames(frames, config),
        torch.zeros(200, dtype=torch.long),
        config,
        torch.Generator().manual_seed(0),
    )
    rows = ((images[:, 0, :, 0] + 1) * 127.5).round().int()
    shifts = rows[:, 16] - 16
    assert set(shifts.tolist()) == set(range(-3, 4))
    for row, shift in zip(rows, shifts, strict=True):
        assert row.tolist() == [min(max(r + int(shift), 0), 31) for r in range(32)]
    assert (images[:, 1] == -1).all()
