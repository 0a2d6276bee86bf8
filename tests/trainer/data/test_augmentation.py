"""Augmentation: one draw a sample and camera, whoever decoded it, and each kind does its work."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from trainer.data.augmentation import augmented_images, proprioception_noise
from trainer.data.configuration import AugmentationConfig

NOTHING = {"shift_pixels": 0, "brightness": 0.0, "contrast": 0.0, "proprioception_noise": 0.0}
EVERYTHING = AugmentationConfig(
    shift_pixels=3, crop_fraction=0.8, saturation=0.3, hue=0.1, blur_pixels=1.5
)


def random_images(*leading: int, side: int = 24) -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (*leading, side, side, 3), generator=generator, dtype=torch.uint8)


def augmented(images: torch.Tensor, config: AugmentationConfig, first: int = 0) -> torch.Tensor:
    return augmented_images(images, "scene", first + np.arange(len(images)), config, seed=5)


def test_what_happens_to_a_sample_depends_on_its_number_alone() -> None:
    images = random_images(6, 2)
    whole = augmented(images, EVERYTHING)
    assert whole.shape == (6, 2, 3, 24, 24)
    torch.testing.assert_close(augmented(images[2:4], EVERYTHING, first=2), whole[2:4])
    other_camera = augmented_images(images, "wrist", np.arange(6), EVERYTHING, seed=5)
    other_seed = augmented_images(images, "scene", np.arange(6), EVERYTHING, seed=6)
    for other in (other_camera, other_seed):
        for sample in range(6):
            assert not torch.equal(other[sample], whole[sample])


def test_all_frames_of_a_sample_are_treated_alike() -> None:
    images = random_images(5, 1).expand(5, 3, 24, 24, 3)
    result = augmented(images, EVERYTHING)
    for frame in (1, 2):
        torch.testing.assert_close(result[:, frame], result[:, 0])
    # But not one sample as another.
    same = random_images(1, 1).expand(5, 1, 24, 24, 3)
    assert not torch.allclose(augmented(same, EVERYTHING)[0], augmented(same, EVERYTHING)[1])


def test_a_shift_moves_pixels_and_repeats_edges() -> None:
    config = AugmentationConfig(**{**NOTHING, "shift_pixels": 3})
    ramp = torch.arange(32, dtype=torch.uint8)
    frame = torch.stack(
        [ramp[:, None].expand(32, 40), ramp.new_zeros(32, 40), ramp[:, None].expand(32, 40)], -1
    )
    images = augmented(frame.expand(200, 1, 32, 40, 3), config)[:, 0]
    rows = ((images[:, 0, :, 0] + 1) * 127.5).round().int()
    shifts = rows[:, 16] - 16
    assert set(shifts.tolist()) == set(range(-3, 4))
    for row, shift in zip(rows, shifts, strict=True):
        assert row.tolist() == [min(max(r + int(shift), 0), 31) for r in range(32)]
    assert (images[:, 1] == -1).all()


def test_a_crop_keeps_the_asked_part_and_stays_inside() -> None:
    config = AugmentationConfig(**NOTHING, crop_fraction=0.5)
    side = 64
    ramp = torch.arange(side, dtype=torch.uint8)[:, None, None].expand(side, side, 3)
    rows = (augmented(ramp.expand(300, 1, side, side, 3), config)[:, 0, 0, :, 5] + 1) * 127.5
    kept = (rows[:, -1] - rows[:, 0]) / (side - 1)
    assert kept.min() > 0.49
    assert kept.min() < 0.55
    assert kept.max() > 0.95
    assert rows.min() > -1e-3
    assert rows.max() < side - 1 + 1e-3
    # All places of the image are seen.
    assert rows[:, 0].min() < 2
    assert rows[:, -1].max() > side - 3


def test_colour_changes_keep_greys_and_brightness() -> None:
    config = AugmentationConfig(**NOTHING, saturation=0.5, hue=0.5)
    grey = random_images(40, 1)[..., :1].expand(40, 1, 24, 24, 3)
    plain = AugmentationConfig(**NOTHING)
    torch.testing.assert_close(augmented(grey, config), augmented(grey, plain), atol=1e-3, rtol=0)
    images = random_images(40, 1)
    luminance = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    changed, before = augmented(images, config), augmented(images, plain)
    torch.testing.assert_close(
        (changed * luminance).sum(2), (before * luminance).sum(2), atol=2e-3, rtol=0
    )
    assert (changed - before).abs().amax(dim=(1, 2, 3, 4)).min() > 0.05


def test_a_blur_smooths_by_various_widths_and_keeps_the_mean() -> None:
    config = AugmentationConfig(**NOTHING, blur_pixels=2.0)
    dot = torch.zeros(50, 1, 33, 33, 3, dtype=torch.uint8)
    dot[:, :, 16, 16] = 255
    blurred = (augmented(dot, config)[:, 0, 0] + 1) / 2
    torch.testing.assert_close(blurred.sum(dim=(1, 2)), torch.ones(50), atol=1e-3, rtol=0)
    offsets = torch.arange(33.0) - 16
    variance = (blurred.sum(dim=1) * offsets**2).sum(dim=1)
    assert variance.min() < 0.1
    assert 3.2 < variance.max() < 4.0


@pytest.mark.parametrize("size", [1, 20])
def test_noise_of_proprioception_depends_on_the_samples_number(size: int) -> None:
    whole = proprioception_noise(np.arange(3000), size, seed=1)
    np.testing.assert_array_equal(
        proprioception_noise(np.arange(100, 110), size, 1), whole[100:110]
    )
    np.testing.assert_allclose(whole.std(axis=0), 1, atol=0.06)
