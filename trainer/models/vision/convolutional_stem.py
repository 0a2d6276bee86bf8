"""Convolutions in place of the one that cuts an image into patches.

As in Xiao et al. 2021 (arXiv:2106.14881): neighbouring pixels are read by small kernels that halve
the image again and again, so that what is near each other need not be learnt by attention. With few
images this is most of what a small ViT lacks.

Axes: N image, C channel, H height, W width (pixels), h and w (patches), D width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.models.vision.group_norm import CHANNELS_PER_GROUP, GroupNorm

_SMALLEST_CHANNELS = 32


def stem_strides(patch_size: int) -> tuple[int, ...]:
    """Strides whose product is `patch_size`: one of 2 to 5, then twos.

    Raises:
        ValueError: no such strides exist.
    """
    first, halvings = patch_size, 0
    while first % 2 == 0 and first > 2:
        first, halvings = first // 2, halvings + 1
    if not 2 <= first <= 5:
        raise ValueError(f"2, 3 or 5 times a power of 2, got {patch_size}")
    return (first, *[2] * halvings)


class ConvolutionalStem(nn.Sequential):
    """(N, 3, H, W) to (N, D, h, w): channels double while sides halve."""

    def __init__(self, patch_size: int, width: int) -> None:
        strides = stem_strides(patch_size)
        layers: list[nn.Module] = []
        channels = 3
        for place, stride in enumerate(strides):
            outputs = _num_channels(width, halvings=len(strides) - 1 - place)
            # Kernels overlap, and are odd: a pixel's neighbours on both sides are read alike.
            kernel = 2 * stride + 1 if place == 0 else 3
            layers += [
                nn.Conv2d(channels, outputs, kernel, stride, padding=kernel // 2, bias=False),
                GroupNorm(outputs),
                nn.SiLU(),
            ]
            channels = outputs
        layers.append(nn.Conv2d(channels, width, kernel_size=1))
        super().__init__(*layers)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        # With channels last a CPU takes three quarters of the time, there and back.
        return super().forward(input.contiguous(memory_format=torch.channels_last))

    def reset_parameters(self) -> None:
        for layer in self:
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight, mode="fan_out")
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)


def _num_channels(width: int, *, halvings: int) -> int:
    """Whole groups, and not so few that the first of them see nothing."""
    least = min(width, _SMALLEST_CHANNELS)
    return CHANNELS_PER_GROUP * -(-max(width >> halvings, least) // CHANNELS_PER_GROUP)
