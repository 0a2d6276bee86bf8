"""From patches to tokens of a language model: fewer, and as wide as its words.

Axes: N image, h and w patches, k shuffle factor, T token, D width of a patch, E width of a word.
"""

from __future__ import annotations

from torch import Tensor, nn


def pixel_shuffle(patch_NhwD: Tensor, factor: int) -> Tensor:
    """(N, T, k k D): each k x k patches side by side in one token, row by row."""
    num_images, height, width, _ = patch_NhwD.shape
    blocks = patch_NhwD.reshape(num_images, height // factor, factor, width // factor, factor, -1)
    return blocks.transpose(2, 3).reshape(num_images, height * width // factor**2, -1)


class Connector(nn.Module):
    """(N, h, w, D) to (N, T, E): pixel shuffle and one matrix. width: D. factor: k."""

    def __init__(self, width: int, factor: int, word_width: int) -> None:
        super().__init__()
        self.factor = factor
        self.projection = nn.Linear(width * factor**2, word_width, bias=False)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.projection.weight, std=0.02)

    def forward(self, patch_NhwD: Tensor) -> Tensor:
        return self.projection(pixel_shuffle(patch_NhwD, self.factor))
