"""A transformer that denoises action chunks, and the flow that it defines.

Flow matching (Lipman et al. 2023, arXiv:2210.02747) along straight lines from noise e to a chunk a:
x_t = (1 - t) e + t a, t = 0 being noise. The network predicts the clean chunk a from x_t; the
velocity is (a - x_t) / (1 - t). Predicting the chunk and not the velocity matters: noise has to
pass whole through a network that predicts velocities, a chunk lies on few dimensions.

Axes: B sample, T timestep, A numbers an action, N token of the chunk, P numbers a token,
K conditioning token, D width, H attention head, d width of a head.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainer.models.configuration import FlowHeadConfig

# Below this remaining time 1 - t the loss weight 1 / (1 - t)^2 of a velocity error stops growing.
_MIN_REMAINING_TIME = 0.25

# Times in [0, 1] are spread over the sinusoids as if they were positions up to this number.
_TIME_SCALE = 1000.0


def _sinusoids(position_B: Tensor, width: int) -> Tensor:
    """(B,) to (B, width): sines, then cosines, of geometrically falling frequencies."""
    exponents = torch.arange(width // 2, device=position_B.device) / (width // 2)
    angles = position_B[:, None].float() * torch.exp(-math.log(10_000.0) * exponents)
    return torch.cat([angles.sin(), angles.cos()], dim=-1)


class Conditioning(NamedTuple):
    """What the head knows of the scene, made once and used at every flow time.

    modulation: (B, D), a summary that scales, shifts and gates.
    keys_values: for each block the keys and values (B, H, K, d) of the conditioning tokens.
    """

    modulation: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...]

    def repeated(self, times: int) -> Conditioning:
        """For `times` chunks a sample, samples varying fastest."""
        return Conditioning(
            modulation=self.modulation.repeat(times, 1),
            keys_values=tuple(
                (keys.repeat(times, 1, 1, 1), values.repeat(times, 1, 1, 1))
                for keys, values in self.keys_values
            ),
        )


class _Block(nn.Module):
    """The chunk's tokens attend to each other and to the conditioning; then an MLP.

    Both are scaled, shifted and gated by time and scene. The gates start at zero (Peebles & Xie
    2023, arXiv:2212.09748): a block begins as the identity.
    """

    def __init__(self, config: FlowHeadConfig) -> None:
        super().__init__()
        width = config.width
        self.num_heads = config.num_heads
        self.norm_attention = nn.LayerNorm(width, elementwise_affine=False)
        self.to_qkv = nn.Linear(width, 3 * width)
        self.conditioning_to_kv = nn.Linear(width, 2 * width)
        self.from_attention = nn.Linear(width, width)
        self.norm_mlp = nn.LayerNorm(width, elementwise_affine=False)
        self.mlp = nn.Sequential(
            nn.Linear(width, config.mlp_ratio * width),
            nn.SiLU(),
            nn.Linear(config.mlp_ratio * width, width),
        )
        self.to_modulation = nn.Linear(width, 6 * width)
        nn.init.zeros_(self.to_modulation.weight)
        nn.init.zeros_(self.to_modulation.bias)

    def read(self, conditioning_BKD: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values (B, H, K, d) of the conditioning tokens."""
        keys, values = self._split_heads(self.conditioning_to_kv(conditioning_BKD), 2)
        return keys, values

    def forward(
        self, x_BND: Tensor, modulating_BD: Tensor, keys_values: tuple[Tensor, Tensor]
    ) -> Tensor:
        modulation = self.to_modulation(modulating_BD)[:, None].chunk(6, dim=-1)
        shift, scale, gate, mlp_shift, mlp_scale, mlp_gate = modulation
        attended = self._attend(self.norm_attention(x_BND) * (1 + scale) + shift, keys_values)
        x_BND = x_BND + gate * attended
        return x_BND + mlp_gate * self.mlp(self.norm_mlp(x_BND) * (1 + mlp_scale) + mlp_shift)

    def _attend(self, x_BND: Tensor, keys_values: tuple[Tensor, Tensor]) -> Tensor:
        query, keys, values = self._split_heads(self.to_qkv(x_BND), 3)
        keys = torch.cat([keys_values[0], keys], dim=2)
        values = torch.cat([keys_values[1], values], dim=2)
        # Written out: with so few tokens torch's fused attention is 3 to 16 times slower in
        # bfloat16 on a CPU.
        weights = (query @ keys.transpose(-1, -2) * query.shape[-1] ** -0.5).softmax(-1)
        attended_BHNd = weights.to(values.dtype) @ values
        return self.from_attention(attended_BHNd.transpose(1, 2).flatten(2))

    def _split_heads(self, x_BSF: Tensor, parts: int) -> tuple[Tensor, ...]:
        """(B, S, parts D) to `parts` of (B, H, S, d)."""
        return x_BSF.unflatten(-1, (parts, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def computed(module: nn.Module, *inputs: Any, forgotten: bool) -> Tensor:
    """A module's output. forgotten: of its inside, which is computed again for a backward pass."""
    if forgotten and torch.is_grad_enabled():
        output = checkpoint(module, *inputs, use_reentrant=False)
        assert isinstance(output, Tensor)
        return output
    return module(*inputs)


class _Blocks(nn.ModuleList):
    """A list whose items are known to be blocks."""

    def __iter__(self) -> Iterator[_Block]:
        return cast("Iterator[_Block]", super().__iter__())


class FlowHead(nn.Module):
    """Noisy chunks (B, T, A) and times (B,) to clean ones, given what `read` made of a scene."""

    def __init__(self, config: FlowHeadConfig, *, chunk_length: int, action_size: int) -> None:
        super().__init__()
        width = config.width
        self.chunk_length, self.action_size = chunk_length, action_size
        self.checkpoints_activations = False
        self.timesteps_per_token = config.timesteps_per_token
        numbers_per_token = config.timesteps_per_token * action_size
        self.from_actions = nn.Linear(numbers_per_token, width)
        self.positions = nn.Parameter(
            0.02 * torch.randn(chunk_length // config.timesteps_per_token, width)
        )
        self.from_time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, width))
        self.from_conditioning = nn.Linear(width, width)
        self.blocks = _Blocks(_Block(config) for _ in range(config.depth))
        self.norm = nn.LayerNorm(width)
        self.to_actions = nn.Linear(width, numbers_per_token)
        # Starts by predicting the mean chunk, which is zero in normalised numbers.
        nn.init.zeros_(self.to_actions.weight)
        nn.init.zeros_(self.to_actions.bias)

    def read(self, *scene: Tensor) -> Conditioning:
        """A scene is conditioning tokens (B, K, D) alone."""
        (conditioning_BKD,) = scene
        return Conditioning(
            modulation=self.from_conditioning(conditioning_BKD.mean(dim=1)),
            keys_values=tuple(block.read(conditioning_BKD) for block in self.blocks),
        )

    def forward(self, noisy_BTA: Tensor, time_B: Tensor, conditioning: Conditioning) -> Tensor:
        tokens_BNP = noisy_BTA.reshape(
            len(noisy_BTA), -1, self.timesteps_per_token * self.action_size
        )
        x_BND = self.from_actions(tokens_BNP) + self.positions
        time_BD = self.from_time(_sinusoids(time_B * _TIME_SCALE, self.positions.shape[1]))
        modulating_BD = functional.silu(time_BD + conditioning.modulation)
        for block, keys_values in zip(self.blocks, conditioning.keys_values, strict=True):
            x_BND = computed(
                block, x_BND, modulating_BD, keys_values, forgotten=self.checkpoints_activations
            )
        return self.to_actions(self.norm(x_BND)).reshape(noisy_BTA.shape).float()


def flow_loss(
    head: FlowHead,
    conditioning: Conditioning,
    chunk_BTA: Tensor,
    valid_BT: Tensor,
    *,
    noise_BTA: Tensor,
    time_B: Tensor,
) -> Tensor:
    """The weighted squared error of the predicted chunk over its valid steps, a scalar.

    The weight makes it the error of the velocity, but for the last quarter of the flow, where
    that would outgrow everything else. Steps beyond an episode's end count nothing.
    """
    t_B11 = time_B[:, None, None]
    noisy_BTA = (1 - t_B11) * noise_BTA + t_B11 * chunk_BTA
    predicted_BTA = head(noisy_BTA, time_B, conditioning)
    weight_B = (1 - time_B).clamp(min=_MIN_REMAINING_TIME).pow(-2)
    error_BT = (predicted_BTA - chunk_BTA).square().mean(dim=-1)
    return (weight_B[:, None] * error_BT * valid_BT).sum() / valid_BT.sum().clamp(min=1)
