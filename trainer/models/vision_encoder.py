"""One camera's image to one conditioning token.

Axes: B sample, H W image, D width.
"""

from __future__ import annotations

from torch import Tensor, nn

from trainer.models.configuration import VisionConfig
from trainer.models.vision.keypoints import KeypointFeatures


class VisionEncoder(KeypointFeatures):
    """(B, 3, H, W) in [-1, 1] to (B, D)."""

    def __init__(self, config: VisionConfig, token_width: int) -> None:
        super().__init__(config)
        self.to_token = nn.Sequential(
            nn.Linear(self.num_features, token_width), nn.LayerNorm(token_width), nn.SiLU()
        )

    def forward(self, image_BCHW: Tensor) -> Tensor:
        return self.to_token(self.features(image_BCHW))
