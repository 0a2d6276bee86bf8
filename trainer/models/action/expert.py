"""What every action network offers, so that any of them goes with any objective.

Axes: B sample, R draw, T timestep, A numbers an action, P proprioceptive step, Q its numbers.
"""

from __future__ import annotations

import math
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from trainer.models.backbone import BackboneFeatures


class Conditioning(Protocol):
    """What an expert made of an observation."""

    def repeated(self, times: int, noise_BPW: Tensor | None) -> Conditioning:
        """For `times` draws a sample, next to each other, with noise on proprioception."""
        ...


class ActionExpert(Protocol):
    """A network that reads an observation once, and is then asked about many noisy chunks.

    num_backbone_layers: how many of the backbone's last layers it reads.
    reads_observation_token: whether the backbone has to append its observation token.
    reads_keys_values: whether it reads the backbone's keys and values.
    transformer: its blocks.
    """

    num_backbone_layers: int
    reads_observation_token: bool
    reads_keys_values: bool
    transformer: Any

    def read(self, features: BackboneFeatures, proprioception_BPQ: Tensor | None) -> Conditioning:
        """All that does not depend on the noisy chunk."""
        ...

    def __call__(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: Any) -> Tensor:
        """What the objective has it predict, (B, T, A), in float32."""
        ...


def sinusoids(value_B: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): sines, then cosines, of geometrically falling frequencies."""
    half = width // 2
    exponent = torch.arange(half, device=value_B.device) / max(half - 1, 1)
    angle = value_B[:, None].float() * torch.exp(-math.log(10_000.0) * exponent)
    return torch.cat([angle.sin(), angle.cos()], dim=-1)


def repeated_rows(x: Tensor, times: int) -> Tensor:
    return x if times == 1 else x.repeat_interleave(times, dim=0)


def with_noise(x: Tensor, noise: Tensor | None) -> Tensor:
    return x if noise is None else x + noise.to(x.dtype)


def xavier_(linear: nn.Linear) -> None:
    nn.init.xavier_uniform_(linear.weight)
    if linear.bias is not None:
        nn.init.zeros_(linear.bias)
