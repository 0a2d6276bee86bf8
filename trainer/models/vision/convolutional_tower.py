"""Images to a few tokens by convolutions alone: what a policy of a laptop's minutes sees by.

Axes: N image, C channel, H height, W width (pixels), T token, D width.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn

from trainer.models.vision.configuration import ConvolutionalTowerConfig
from trainer.models.vision.keypoints import KeypointFeatures
from trainer.models.vision.modulation import Look


class ConvolutionalTower(KeypointFeatures):
    """(N, 3, H, W) in [-1, 1] to (N, 1, T, D), as if of one row of patches."""

    def __init__(self, config: ConvolutionalTowerConfig) -> None:
        super().__init__(config)
        self.config = config
        self.to_tokens = nn.Linear(self.num_features, config.tokens_per_image * config.width)
        self.norm = nn.LayerNorm(config.width)

    @property
    def width(self) -> int:
        return self.config.width

    @property
    def image_size(self) -> int:
        """Pixels a side that it takes for sure."""
        return self.config.image_size

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Of so few layers nothing is worth computing twice."""

    def compile_blocks(self, **options: object) -> None:
        self.convolutions.compile(**options)

    def forward(self, image_NCHW: Tensor, looks: Sequence[Look] = ()) -> Tensor:
        """looks: what a `Modulation` says of each of the images."""
        self.config.require_image_size(*image_NCHW.shape[-2:])
        feature_NF = self.features(image_NCHW, looks)
        token_NTD = self.to_tokens(feature_NF).unflatten(1, (-1, self.width))
        return nn.functional.silu(self.norm(token_NTD))[:, None]
