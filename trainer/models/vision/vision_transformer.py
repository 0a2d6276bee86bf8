"""Images of any size to patch tokens.

Axes: N image, C channel, H height, W width (pixels), h and w (patches), P patch, D width.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.language.normalization import build_norm
from trainer.models.language.transformer import Transformer
from trainer.models.vision.configuration import VisionTransformerConfig
from trainer.models.vision.convolutional_stem import ConvolutionalStem


class VisionTransformer(nn.Module):
    """(N, 3, H, W) to (N, h, w, D), every patch seeing every other."""

    def __init__(self, config: VisionTransformerConfig) -> None:
        super().__init__()
        self.config = config
        if config.stem == "convolutions":
            self.patches = ConvolutionalStem(config.patch_size, config.width)
        else:
            self.patches = nn.Conv2d(
                3, config.width, kernel_size=config.patch_size, stride=config.patch_size
            )
        if config.positions == "learned":
            side = config.grid_size
            self.positions = nn.Parameter(torch.empty(side, side, config.width))
        self.transformer = Transformer(config.transformer)
        self.norm = build_norm("layer", config.width, config.norm_epsilon)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The patches' and the positions'; blocks have initialised themselves."""
        if isinstance(self.patches, ConvolutionalStem):
            self.patches.reset_parameters()
        else:
            nn.init.normal_(self.patches.weight, std=0.02)
            assert self.patches.bias is not None
            nn.init.zeros_(self.patches.bias)
        if self.config.positions == "learned":
            nn.init.normal_(self.positions, std=0.02)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def image_size(self) -> int:
        """Pixels a side that it takes for sure."""
        return self.config.image_size

    def checkpoint_activations(self, enabled: bool = True) -> None:
        self.transformer.checkpoint_activations(enabled)

    def compile_blocks(self, **options: object) -> None:
        self.transformer.compile_blocks(**options)

    def forward(self, image_NCHW: Tensor) -> Tensor:
        self.config.require_image_size(*image_NCHW.shape[-2:])
        patch_NDhw = self.patches(image_NCHW)
        height, width = patch_NDhw.shape[-2:]
        position_PD = self._positions(height, width, image_NCHW.device)
        patch_NPD = patch_NDhw.flatten(2).transpose(1, 2)
        patch_NPD = patch_NPD + position_PD.to(patch_NPD.dtype)
        output = self.transformer(patch_NPD)
        return self.norm(output.last_BSD).unflatten(1, (height, width))

    def _positions(self, height: int, width: int, device: torch.device) -> Tensor:
        """(P, D) for a grid of patches."""
        if self.config.positions == "sinusoidal":
            return sinusoidal_positions(height, width, self.config.width, device)
        side = self.config.grid_size
        if (height, width) == (side, side):
            return self.positions.flatten(0, 1)
        grid_1Dhw = functional.interpolate(
            self.positions.permute(2, 0, 1)[None].float(),
            size=(height, width),
            mode="bicubic",
            align_corners=False,
            antialias=height < side or width < side,
        )
        return grid_1Dhw[0].flatten(1).T


def sinusoidal_positions(height: int, width: int, size: int, device: torch.device) -> Tensor:
    """(P, size): sines and cosines of the row, then of the column."""
    quarter = size // 4
    exponent = torch.arange(quarter, device=device) / quarter
    frequency = torch.exp(-math.log(10_000.0) * exponent)
    row_P, column_P = torch.meshgrid(
        torch.arange(height, device=device), torch.arange(width, device=device), indexing="ij"
    )
    angles = [axis.flatten()[:, None] * frequency for axis in (row_P, column_P)]
    return torch.cat([turn(angle) for angle in angles for turn in (torch.sin, torch.cos)], dim=-1)
