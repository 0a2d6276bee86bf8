"""Random shifts and lighting of images, on the training's device, a whole batch at once.

Axes: F frame, B sample, H W image, C channel.
"""

from __future__ import annotations

import torch
from torch import Tensor

from trainer.configuration import AugmentationConfig


def padded_frames(frames_FHWC: Tensor, config: AugmentationConfig) -> Tensor:
    """Frames with their edges repeated outwards, so that any shift of one is a mere slice."""
    _, height, width, _ = frames_FHWC.shape
    most = config.shift_pixels
    rows = torch.arange(-most, height + most).clamp(0, height - 1)
    columns = torch.arange(-most, width + most).clamp(0, width - 1)
    return frames_FHWC[:, rows][:, :, columns]


def augmented_images(
    padded_FHWC: Tensor, index_B: Tensor, config: AugmentationConfig, generator: torch.Generator
) -> Tensor:
    """Frames of `padded_frames` at `index_B`, shifted and lit at random.

    Returns (B, 3, H, W) in about [-1, 1]; channels lie last in memory, as convolutions like it.
    """
    device, batch, most = padded_FHWC.device, len(index_B), config.shift_pixels
    height, width = padded_FHWC.shape[1] - 2 * most, padded_FHWC.shape[2] - 2 * most
    # A view of every shift of every frame, from which one indexing picks a batch.
    shifts_FyxHWC = padded_FHWC.unfold(1, height, 1).unfold(2, width, 1).movedim(3, -1)
    y_B, x_B = torch.randint(2 * most + 1, (2, batch), generator=generator, device=device)
    images_BHWC = shifts_FyxHWC[index_B, y_B, x_B]
    jitter_2B = 2 * torch.rand((2, batch, 1, 1, 1), generator=generator, device=device) - 1
    contrast = 1 + config.contrast * jitter_2B[0]
    brightness = config.brightness * jitter_2B[1]
    # (pixel / 127.5 - 1) * contrast + brightness, in one multiplication and one addition.
    images = images_BHWC.float().mul_(contrast / 127.5).add_(brightness - contrast)
    return images.permute(0, 3, 1, 2)
