"""What is looked for in an image, by what was told and by which of the cameras took it.

Feature-wise linear modulation (FiLM: Perez et al. 2018, arXiv:1709.07871): each normalised feature
map is scaled and shifted by numbers that a small network makes of the words. A few features that
many tasks and cameras share become, for each of them, features of its own.

Axes: B sample, S token, D width of a word, V view, W hidden width, N = B V image, C channel.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

# Scale and shift (N, C) of one map.
Look = tuple[Tensor, Tensor]


class Modulation(nn.Module):
    """Words to scales and shifts of several maps; at first they change nothing.

    channels: of each map. num_views: images of a sample, each in the same place in all samples.
    """

    # As `trainer.initialization` asks: a checkpoint without it is the same network with it.
    changes_nothing_at_first = True

    def __init__(
        self, word_width: int, *, num_views: int, width: int, channels: Sequence[int]
    ) -> None:
        super().__init__()
        self.channels = tuple(channels)
        self.norm = nn.LayerNorm(word_width)
        self.from_words = nn.Linear(word_width, width)
        self.from_view = nn.Parameter(0.1 * torch.randn(num_views, width))
        self.to_maps = nn.Linear(width, 2 * sum(channels))
        nn.init.zeros_(self.to_maps.weight)
        nn.init.zeros_(self.to_maps.bias)

    @property
    def num_views(self) -> int:
        return len(self.from_view)

    def forward(self, embedded_BSD: Tensor, is_word_BS: Tensor) -> list[Look]:
        """Of the mean word, for N images, those of one sample side by side."""
        weight_BS1 = is_word_BS[..., None].float()
        total_BD = (embedded_BSD.float() * weight_BS1).sum(dim=1)
        mean_BD = total_BD / weight_BS1.sum(dim=1).clamp(min=1)
        words_BW = self.from_words(self.norm(mean_BD))
        hidden_BVW = nn.functional.silu(words_BW[:, None] + self.from_view)
        numbers_NC = self.to_maps(hidden_BVW).flatten(0, 1).float()
        sizes = [size for channels in self.channels for size in (channels, channels)]
        parts = numbers_NC.split(sizes, dim=-1)
        return list(zip(parts[::2], parts[1::2], strict=True))


def modulated(map_NChw: Tensor, look: Look) -> Tensor:
    scale_NC, shift_NC = look
    return torch.addcmul(shift_NC[..., None, None], map_NChw, 1 + scale_NC[..., None, None])
