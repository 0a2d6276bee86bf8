"""Chunks at once, without noise: an encoder's tokens decoded by one learned query a timestep.

After ACT (Zhao et al. 2023, arXiv:2304.13705), with its L1 loss and without its latent style, which
later work found dispensable. Timesteps do not see each other's predictions: use it where a scene
leaves one good chunk.

Axes: B sample, S token of the observation, T timestep, A numbers an action, P proprioceptive step,
Q its numbers, W width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.masks import AttentionMask
from trainer.models.language.normalization import build_norm
from trainer.models.language.transformer import Transformer


class ChunkRegression(nn.Module):
    """Tokens (B, S, D) of an observation to a chunk (B, T, A)."""

    def __init__(
        self, config: TransformerConfig, space: ActionSpaceConfig, *, observation_width: int
    ) -> None:
        super().__init__()
        self.space = space
        width = config.width
        self.from_observation = nn.Linear(observation_width, width)
        self.from_proprioception = (
            nn.Linear(space.proprioception_size, width) if space.proprioception_size else None
        )
        self.queries = nn.Parameter(torch.empty(space.chunk_length, width))
        nn.init.normal_(self.queries, std=0.02)
        self.transformer = Transformer(config)
        self.norm = build_norm(config.norm, width, config.norm_epsilon)
        self.to_actions = nn.Linear(width, space.action_size)

    def forward(
        self,
        observation_BSD: Tensor,
        valid_BS: Tensor,
        proprioception_BPQ: Tensor | None = None,
    ) -> Tensor:
        parts = [self.from_observation(observation_BSD)]
        if self.from_proprioception is not None:
            if proprioception_BPQ is None:
                raise ValueError("proprioception is missing: this policy was made to read it")
            parts.append(self.from_proprioception(proprioception_BPQ))
        num_samples, length = len(observation_BSD), self.space.chunk_length
        parts.append(self.queries.to(parts[0].dtype).expand(num_samples, -1, -1))
        x_BSW = torch.cat(parts, dim=1)
        num_read = x_BSW.shape[1] - observation_BSD.shape[1]
        is_valid_BS = torch.cat([valid_BS, valid_BS.new_ones(num_samples, num_read)], dim=1)
        mask = AttentionMask(causal=False, valid_BK=is_valid_BS)
        position_BS = (is_valid_BS.cumsum(dim=1) - 1).clamp(min=0)
        output = self.transformer(x_BSW, mask=mask, position_BS=position_BS).last_BSD
        return self.to_actions(self.norm(output[:, -length:])).float()


def regression_loss(predicted_BTA: Tensor, chunk_BTA: Tensor, weight_BT: Tensor) -> Tensor:
    """Mean absolute error over the timesteps of weight, a scalar."""
    error_BT = (predicted_BTA.float() - chunk_BTA.float()).abs().mean(dim=-1)
    return (error_BT * weight_BT).sum() / weight_BT.sum().clamp(min=1e-6)
