"""Heads of others in the flow head's place, for comparison: the same images, tokens and training.

Both answer as the flow head does, with the clean chunk at a time of the flow, so that validation,
serving and real-time chunking treat all alike.

Axes: B sample, R draw an image, K conditioning token, D width, F numbers of the scene, T timestep,
A numbers an action.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from trainer.models.action.configuration import ActionSpaceConfig
from trainer.models.action.diffusion import DiffusionConfig, diffusion_loss
from trainer.models.action.regression import ChunkRegression, regression_loss
from trainer.models.action.unet import ConvolutionalDenoiser, UnetConfig
from trainer.models.configuration import (
    BaselineHeadConfig,
    DiffusionHeadConfig,
    RegressionHeadConfig,
)
from trainer.models.language.configuration import TransformerConfig

# Normalised actions are hardly beyond 1; at the noisiest level the chunk is noise magnified.
_CLIP = 1.5


class DiffusionHead(nn.Module):
    """Tells the noise in a noisy chunk, level by level.

    A chunk a at level n is x_n = sqrt(c) a + sqrt(1 - c) e. Divided by sqrt(c) + sqrt(1 - c) it is
    the flow's (1 - t) e + t a at t = sqrt(c) / (sqrt(c) + sqrt(1 - c)), and a step of DDIM (Song
    et al. 2021, arXiv:2010.02502) is Euler's step of the flow from one such t to another. So its
    sampler is DDIM with steps that are evenly spread over t.
    """

    def __init__(
        self,
        config: DiffusionHeadConfig,
        *,
        num_tokens: int,
        token_width: int,
        chunk_length: int,
        action_size: int,
    ) -> None:
        super().__init__()
        self.repeats = config.levels_per_image
        self.diffusion = DiffusionConfig(num_levels=config.num_levels)
        self.denoiser = ConvolutionalDenoiser(
            UnetConfig(channels=config.channels, kernel_size=config.kernel_size),
            ActionSpaceConfig(action_size=action_size, chunk_length=chunk_length),
            observation_size=num_tokens * token_width,
        )
        kept_N = self.diffusion.kept(torch.device("cpu"))
        chunk_N, noise_N = kept_N.sqrt(), (1 - kept_N).sqrt()
        levels = {"chunk_N": chunk_N, "noise_N": noise_N, "time_N": chunk_N / (chunk_N + noise_N)}
        for name, values in levels.items():
            self.register_buffer(name, values.float(), persistent=False)

    chunk_N: Tensor
    noise_N: Tensor
    time_N: Tensor

    def read(self, *scene: Tensor) -> Tensor:
        """(B, F). A scene is conditioning tokens (B, K, D) alone."""
        (conditioning_BKD,) = scene
        return conditioning_BKD.flatten(1)

    def forward(self, noisy_BTA: Tensor, time_B: Tensor, scene_BF: Tensor) -> Tensor:
        """The clean chunk, as the noise told at the nearest level of training says."""
        level_B = (time_B[:, None] - self.time_N).abs().argmin(dim=1)
        chunk_B11, noise_B11 = (
            share_N[level_B][:, None, None] for share_N in (self.chunk_N, self.noise_N)
        )
        noisy_BTA = noisy_BTA * (chunk_B11 + noise_B11)
        told_BTA = self.denoiser(noisy_BTA, level_B / self.diffusion.num_levels, scene_BF)
        return ((noisy_BTA - noise_B11 * told_BTA) / chunk_B11).clamp(-_CLIP, _CLIP)

    def loss(
        self,
        scene_BF: Tensor,
        chunk_BTA: Tensor,
        valid_BT: Tensor,
        *,
        noise_RBTA: Tensor,
        time_RB: Tensor,
    ) -> Tensor:
        """The mean squared error of the noise over valid timesteps, a scalar."""
        repeats, num_levels = len(time_RB), self.diffusion.num_levels
        level_RB = (time_RB * num_levels).long().clamp(max=num_levels - 1)
        scene_BF = scene_BF.repeat(repeats, 1)
        return diffusion_loss(
            self.diffusion,
            lambda noisy_BTA, level_B: self.denoiser(noisy_BTA, level_B, scene_BF),
            chunk_BTA.repeat(repeats, 1, 1),
            valid_BT.repeat(repeats, 1),
            noise_BTA=noise_RBTA.flatten(0, 1),
            level_B=level_RB.flatten(),
        )


class RegressionHead(nn.Module):
    """One chunk, whatever the noise."""

    repeats = 1

    def __init__(
        self,
        config: RegressionHeadConfig,
        *,
        token_width: int,
        chunk_length: int,
        action_size: int,
    ) -> None:
        super().__init__()
        self.decoder = ChunkRegression(
            TransformerConfig(
                width=config.width,
                depth=config.decoder_depth,
                num_heads=config.num_heads,
                causal=False,
            ),
            ActionSpaceConfig(action_size=action_size, chunk_length=chunk_length),
            observation_width=token_width,
        )

    def read(self, *scene: Tensor) -> Tensor:
        """The chunk (B, T, A) itself. A scene is conditioning tokens (B, K, D) alone."""
        (conditioning_BKD,) = scene
        valid_BK = torch.ones(
            conditioning_BKD.shape[:2], dtype=torch.bool, device=conditioning_BKD.device
        )
        return self.decoder(conditioning_BKD, valid_BK)

    def forward(self, noisy_BTA: Tensor, time_B: Tensor, chunk_BTA: Tensor) -> Tensor:
        del time_B
        # Real-time chunking differentiates by the noise: the derivative is nought, but there.
        return chunk_BTA + 0.0 * noisy_BTA

    def loss(
        self,
        chunk_told_BTA: Tensor,
        chunk_BTA: Tensor,
        valid_BT: Tensor,
        *,
        noise_RBTA: Tensor,
        time_RB: Tensor,
    ) -> Tensor:
        """The mean absolute error over valid timesteps, a scalar."""
        del noise_RBTA, time_RB
        return regression_loss(chunk_told_BTA, chunk_BTA, valid_BT)


def build_baseline_head(
    config: BaselineHeadConfig,
    *,
    num_tokens: int,
    token_width: int,
    chunk_length: int,
    action_size: int,
) -> DiffusionHead | RegressionHead:
    if isinstance(config, DiffusionHeadConfig):
        return DiffusionHead(
            config,
            num_tokens=num_tokens,
            token_width=token_width,
            chunk_length=chunk_length,
            action_size=action_size,
        )
    return RegressionHead(
        config, token_width=token_width, chunk_length=chunk_length, action_size=action_size
    )
