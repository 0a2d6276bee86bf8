"""The whole network: cameras and proprioception to conditioning tokens, those to action chunks.

Axes: B sample, K conditioning token, P proprioception, D width.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from trainer.models.baseline_heads import build_baseline_head
from trainer.models.chunk_policy import ChunkHead, ChunkPolicy, Scene
from trainer.models.configuration import MIN_IMAGE_SIDE, ModelConfig
from trainer.models.flow_head import FlowHead, computed
from trainer.models.vision_encoder import VisionEncoder
from trainer.requirements import ConfigurationError


class PolicyNetwork(ChunkPolicy):
    """cameras: name to (height, width). action_size: A. proprioception_size: P."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        cameras: Mapping[str, tuple[int, int]],
        chunk_length: int,
        action_size: int,
        proprioception_size: int,
    ) -> None:
        super().__init__()
        for name, size in cameras.items():
            if min(size) < MIN_IMAGE_SIDE:
                raise ConfigurationError(
                    f"camera {name!r}: expected images of at least {MIN_IMAGE_SIDE} pixels a side, "
                    f"got {size[1]}x{size[0]}"
                )
        width = config.flow_head.width
        self.camera_names = tuple(cameras)
        self._checkpoints_activations = False
        # A list, because a camera's name may hold dots, which a ModuleDict refuses.
        self.encoders = nn.ModuleList(VisionEncoder(config.vision, width) for _ in cameras)
        self.proprioception = nn.Sequential(
            nn.Linear(proprioception_size, width), nn.SiLU(), nn.Linear(width, width)
        )
        self.kinds = nn.Parameter(0.02 * torch.randn(len(cameras) + 1, width))
        self.head = (
            FlowHead(config.flow_head, chunk_length=chunk_length, action_size=action_size)
            if config.baseline is None
            else build_baseline_head(
                config.baseline,
                num_tokens=len(cameras) + 1,
                token_width=width,
                chunk_length=chunk_length,
                action_size=action_size,
            )
        )

    @property
    def chunk_head(self) -> ChunkHead:
        return self.head

    def encode(
        self,
        images: Mapping[str, Tensor],
        proprioception_BP: Tensor,
        token_BS: Tensor | None = None,
    ) -> Scene:
        """Conditioning tokens (B, K, D) alone."""
        del token_BS
        tokens = [
            computed(encoder, images[name], forgotten=self._checkpoints_activations)
            for name, encoder in zip(self.camera_names, self.encoders, strict=True)
        ]
        tokens.append(self.proprioception(proprioception_BP))
        return (torch.stack(tokens, dim=1) + self.kinds,)

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Keep what goes into encoders and blocks alone, and compute their inside twice."""
        self._checkpoints_activations = enabled
        if isinstance(self.head, FlowHead):
            self.head.checkpoints_activations = enabled

    def compile_parts(self) -> None:
        self.head.compile()
        for encoder in self.encoders:
            encoder.compile()


def images_to_input(image_BHWC: Tensor) -> Tensor:
    """(B, H, W, 3) uint8 to (B, 3, H, W) float in [-1, 1], channels last in memory."""
    return image_BHWC.permute(0, 3, 1, 2).float().div_(127.5).sub_(1.0)
