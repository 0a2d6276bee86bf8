"""What is where in an image, by a few convolutions: the features that small policies see by.

A wide, strided first convolution makes the rest cheap on a CPU. The feature map is read in two
ways: where each of some learned features is (spatial softmax, the expected image coordinates: Finn
et al. 2016, arXiv:1509.06113), which is what reaching needs, and what there is in each part of the
image (averages over a grid).

Axes: B image, C channel, H W image, h w feature map, K keypoint, F feature.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.configuration import VisionConfig
from trainer.models.vision.group_norm import GroupNorm
from trainer.models.vision.modulation import Look, modulated

# Of the spatial softmax. At 1, fresh weights give nearly even weights and every keypoint starts in
# the image's middle, where its gradient is weak: learning to reach took several times longer.
_INITIAL_SHARPNESS = 10.0


class SpatialSoftmax(nn.Module):
    """(B, C, h, w) to the mean image coordinates of K features, (B, 2 K), in [-1, 1]."""

    def __init__(self, channels: int, num_keypoints: int) -> None:
        super().__init__()
        self.to_keypoints = nn.Conv2d(channels, num_keypoints, kernel_size=1)
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(_INITIAL_SHARPNESS)))

    def forward(self, x_BChw: Tensor) -> Tensor:
        logits_BKhw = self.to_keypoints(x_BChw).float()
        height, width = logits_BKhw.shape[-2:]
        # In float32: bfloat16 has 8 bits, a third of a pixel of a 96-pixel image.
        weights_BKhw = (
            (logits_BKhw * self.log_sharpness.exp())
            .flatten(2)
            .softmax(-1)
            .unflatten(2, (height, width))
        )
        ys_h = torch.linspace(-1, 1, height, device=x_BChw.device)
        xs_w = torch.linspace(-1, 1, width, device=x_BChw.device)
        y_BK = (weights_BKhw.sum(3) * ys_h).sum(-1)
        x_BK = (weights_BKhw.sum(2) * xs_w).sum(-1)
        return torch.cat([x_BK, y_BK], dim=-1)


class MapConvolutions(nn.Sequential):
    """Images (B, 3, H, W) to feature maps (B, C, h, w)."""

    def __init__(self, config: VisionConfig) -> None:
        stem, channels = config.stem_channels, config.channels
        super().__init__(
            nn.Conv2d(3, stem, kernel_size=8, stride=4, padding=2),
            nn.SiLU(),
            nn.Conv2d(stem, channels, kernel_size=3, stride=2, padding=1),
            GroupNorm(channels),
            nn.SiLU(),
            nn.Conv2d(channels, channels, kernel_size=3, padding=1),
            GroupNorm(channels),
            nn.SiLU(),
        )

    @property
    def normalised_channels(self) -> list[int]:
        """Of the maps that a look can change."""
        return [layer.num_channels for layer in self if isinstance(layer, GroupNorm)]

    def forward(self, input: Tensor, looks: Sequence[Look] = ()) -> Tensor:  # noqa: A002 (torch's)
        """looks: one for each of the normalised maps, or none at all."""
        map_NChw, num_normalised = input, 0
        for layer in self:
            map_NChw = layer(map_NChw)
            if looks and isinstance(layer, GroupNorm):
                map_NChw = modulated(map_NChw, looks[num_normalised])
                num_normalised += 1
        return map_NChw


class KeypointFeatures(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to features (B, F). What becomes of them is a subclass's."""

    def __init__(self, config: VisionConfig) -> None:
        super().__init__()
        channels = config.channels
        self.convolutions = MapConvolutions(config)
        self.keypoints = SpatialSoftmax(channels, config.num_keypoints)
        self.pooled_size = config.pooled_size
        self.num_features = 2 * config.num_keypoints + channels * config.pooled_size**2

    def features(self, image_BCHW: Tensor, looks: Sequence[Look] = ()) -> Tensor:
        map_BChw = self.convolutions(image_BCHW, looks)
        pooled_BF = functional.adaptive_avg_pool2d(map_BChw, self.pooled_size).flatten(1)
        return torch.cat([self.keypoints(map_BChw), pooled_BF.float()], dim=-1)
