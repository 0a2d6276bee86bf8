"""An expert that knows the scene by one token, as VLA Foundry's policies do.

The token holds the observation token's outputs of the backbone's last N layers. The sequence is
[time] [observation] [proprioception] [noisy actions]; the last block's outputs at the actions,
before any norm, are projected to the velocity. Denoising costs the same whatever the backbone read.

Axes: B sample, F numbers of the observation (N layers side by side), P proprioceptive step, Q its
numbers, T timestep, A numbers an action, W width.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.models.action.configuration import ActionSpaceConfig, ObservationTokenConfig
from trainer.models.action.expert import repeated_rows, sinusoids, with_noise, xavier_
from trainer.models.backbone import BackboneFeatures
from trainer.models.language.transformer import Transformer


class ObservedToken(NamedTuple):
    """The observation (B, 1, F), and proprioception (B, P, W) if the policy has any."""

    observation_B1F: Tensor
    proprioception_BPW: Tensor | None = None

    @property
    def tensors(self) -> tuple[Tensor, ...]:
        """Its parts, each by sample, of which it can be made again."""
        return tuple(part for part in self if part is not None)

    def repeated(self, times: int, noise_BPW: Tensor | None) -> ObservedToken:
        proprioception = self.proprioception_BPW
        if proprioception is not None:
            proprioception = with_noise(repeated_rows(proprioception, times), noise_BPW)
        return ObservedToken(repeated_rows(self.observation_B1F, times), proprioception)


class ObservationTokenExpert(nn.Module):
    """Noisy chunks and times to velocities, given one token of the scene."""

    reads_observation_token = True
    reads_keys_values = False

    def __init__(
        self, config: ObservationTokenConfig, space: ActionSpaceConfig, *, backbone_width: int
    ) -> None:
        super().__init__()
        self.config, self.space = config, space
        self.num_backbone_layers = config.num_layers
        width = config.transformer.width
        observation_size = config.num_layers * backbone_width
        self.times = nn.Embedding(config.num_times, observation_size)
        self.from_observation = nn.Linear(observation_size, width)
        self.from_actions = nn.Linear(space.action_size, width)
        self.from_proprioception = (
            nn.Linear(space.proprioception_size, width) if space.proprioception_size else None
        )
        self.transformer = Transformer(config.transformer)
        self.to_actions = nn.Linear(width, space.action_size)
        self.reset_parameters()

    @property
    def num_condition_tokens(self) -> int:
        """Time and observation."""
        return 2 if self.config.time_conditioning == "concat" else 1

    @property
    def num_tokens(self) -> int:
        """Of a draw: time and observation, proprioception, a chunk."""
        space = self.space
        return self.num_condition_tokens + space.num_proprioception_tokens + space.chunk_length

    def reset_parameters(self) -> None:
        """All but the blocks', which have initialised themselves."""
        with torch.no_grad():
            if not self.times.weight.is_meta:
                rows = torch.arange(self.config.num_times, device=self.times.weight.device)
                self.times.weight.copy_(sinusoids(rows, self.times.embedding_dim))
        for linear in (self.from_observation, self.from_actions):
            linear.reset_parameters()
        for linear in (self.to_actions, self.from_proprioception):
            if linear is not None:
                xavier_(linear)

    def read(self, features: BackboneFeatures, proprioception_BPQ: Tensor | None) -> ObservedToken:
        proprioception_BPW = None
        if self.from_proprioception is not None:
            if proprioception_BPQ is None:
                raise ValueError("proprioception is missing: this policy was made to read it")
            proprioception_BPW = self.from_proprioception(
                proprioception_BPQ.to(self.from_proprioception.weight.dtype)
            )
        return ObservedToken(features.observation_B1F, proprioception_BPW)

    def forward(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: ObservedToken) -> Tensor:
        observation_B1F, proprioception_BPW = conditioning
        num_times = self.config.num_times
        # Time 1, where sampling begins, is beyond the last row, which training knows.
        row_B = (time_B * num_times).round().long().clamp(0, num_times - 1)
        time_B1F = self.times(row_B)[:, None]
        if self.config.time_conditioning == "add":
            conditioning_BKF = observation_B1F + time_B1F
        else:
            conditioning_BKF = torch.cat([time_B1F, observation_B1F.to(time_B1F.dtype)], dim=1)
        weight = self.from_observation.weight
        parts = [
            self.from_observation(conditioning_BKF.to(weight.dtype)),
            proprioception_BPW,
            self.from_actions(noisy_BTA.to(weight.dtype)),
        ]
        x_BSW = torch.cat([part for part in parts if part is not None], dim=1)
        output = self.transformer(x_BSW).last_BSD
        return self.to_actions(output[:, -noisy_BTA.shape[1] :]).float()
