"""The convolutional diffusion policy: a 1-D U-Net over the chunk's time (Chi et al. 2023).

arXiv:2303.04137. Each residual block is scaled and shifted (FiLM) by time and observation.

Axes: B sample, T timestep, A numbers an action, C channels, F numbers of the observation.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.action.expert import sinusoids
from trainer.requirements import require, require_positive

_TIME_SCALE = 1000.0


@dataclass(frozen=True, kw_only=True)
class UnetConfig:
    """A 1-D U-Net.

    Attributes:
        channels: Of each level; every level after the first has half the timesteps.
        kernel_size: Timesteps that a convolution sees; odd.
        num_groups: Of the group norms; a divisor of every level's channels.
        time_width: Numbers of the embedded time.
    """

    channels: tuple[int, ...] = (256, 512, 1024)
    kernel_size: int = 5
    num_groups: int = 8
    time_width: int = 128

    def __post_init__(self) -> None:
        require_positive(self, "kernel_size", "num_groups", "time_width")
        require(len(self.channels) > 0, "channels", "at least one level", self.channels)
        require(self.kernel_size % 2 == 1, "kernel_size", "an odd number", self.kernel_size)
        require(self.time_width % 2 == 0, "time_width", "an even number", self.time_width)
        require(
            all(count > 0 and count % self.num_groups == 0 for count in self.channels),
            "channels",
            f"multiples of num_groups ({self.num_groups})",
            self.channels,
        )

    @property
    def stride(self) -> int:
        """Timesteps of the chunk that the deepest level holds in one."""
        return 2 ** (len(self.channels) - 1)


class _Residual(nn.Module):
    """Two convolutions, FiLM between them."""

    def __init__(self, config: UnetConfig, inside: int, outside: int, conditioning: int) -> None:
        super().__init__()
        padding = config.kernel_size // 2
        self.first = nn.Sequential(
            nn.Conv1d(inside, outside, config.kernel_size, padding=padding),
            nn.GroupNorm(config.num_groups, outside),
            nn.Mish(),
        )
        self.to_film = nn.Linear(conditioning, 2 * outside)
        self.second = nn.Sequential(
            nn.Conv1d(outside, outside, config.kernel_size, padding=padding),
            nn.GroupNorm(config.num_groups, outside),
            nn.Mish(),
        )
        self.skip = nn.Conv1d(inside, outside, 1) if inside != outside else nn.Identity()

    def forward(self, x_BCT: Tensor, conditioning_BF: Tensor) -> Tensor:
        scale, shift = self.to_film(functional.mish(conditioning_BF))[..., None].chunk(2, dim=1)
        hidden_BCT = self.first(x_BCT) * (1 + scale) + shift
        return self.second(hidden_BCT) + self.skip(x_BCT)


class _Level(nn.Module):
    """Two residual blocks, and a change of resolution behind them."""

    def __init__(
        self, config: UnetConfig, inside: int, outside: int, conditioning: int, resample: nn.Module
    ) -> None:
        super().__init__()
        self.first = _Residual(config, inside, outside, conditioning)
        self.second = _Residual(config, outside, outside, conditioning)
        self.resample = resample

    def forward(self, x_BCT: Tensor, conditioning_BF: Tensor) -> tuple[Tensor, Tensor]:
        """Before and after the change of resolution."""
        x_BCT = self.second(self.first(x_BCT, conditioning_BF), conditioning_BF)
        return x_BCT, self.resample(x_BCT)


class _Levels(nn.ModuleList):
    """A list whose items are known to be levels."""

    def __iter__(self) -> Iterator[_Level]:
        return cast("Iterator[_Level]", super().__iter__())


class ConvolutionalDenoiser(nn.Module):
    """Noisy chunks (B, T, A), times (B,) and observations (B, F) to outputs (B, T, A)."""

    def __init__(
        self, config: UnetConfig, space: ActionSpaceConfig, *, observation_size: int
    ) -> None:
        super().__init__()
        require(
            space.chunk_length % config.stride == 0,
            "chunk_length",
            f"a multiple of {config.stride}, which {len(config.channels)} levels halve it by",
            space.chunk_length,
        )
        self.config = config
        width = config.time_width
        self.from_time = nn.Sequential(
            nn.Linear(width, 4 * width), nn.Mish(), nn.Linear(4 * width, width)
        )
        conditioning = width + observation_size
        channels = (space.action_size, *config.channels)
        last = len(config.channels) - 1
        self.down = _Levels(
            _Level(
                config,
                channels[index],
                channels[index + 1],
                conditioning,
                nn.Identity()
                if index == last
                else nn.Conv1d(channels[index + 1], channels[index + 1], 3, stride=2, padding=1),
            )
            for index in range(last + 1)
        )
        deepest = channels[-1]
        self.middle = nn.ModuleList(
            _Residual(config, deepest, deepest, conditioning) for _ in range(2)
        )
        self.up = _Levels(
            _Level(
                config,
                2 * channels[index + 1],
                channels[index],
                conditioning,
                nn.ConvTranspose1d(channels[index], channels[index], 4, stride=2, padding=1),
            )
            for index in range(last, 0, -1)
        )
        first = config.channels[0]
        self.to_actions = nn.Sequential(
            nn.Conv1d(first, first, config.kernel_size, padding=config.kernel_size // 2),
            nn.GroupNorm(config.num_groups, first),
            nn.Mish(),
            nn.Conv1d(first, space.action_size, 1),
        )

    def forward(self, noisy_BTA: Tensor, time_B: Tensor, observation_BF: Tensor) -> Tensor:
        time_BF = self.from_time(sinusoids(time_B * _TIME_SCALE, self.config.time_width))
        conditioning_BF = torch.cat([time_BF, observation_BF.to(time_BF.dtype)], dim=-1)
        x_BCT = noisy_BTA.transpose(1, 2)
        skips: list[Tensor] = []
        for level in self.down:
            skip, x_BCT = level(x_BCT, conditioning_BF)
            skips.append(skip)
        for block in self.middle:
            x_BCT = block(x_BCT, conditioning_BF)
        for level in self.up:
            _, x_BCT = level(torch.cat([x_BCT, skips.pop()], dim=1), conditioning_BF)
        return self.to_actions(x_BCT).transpose(1, 2).float()
