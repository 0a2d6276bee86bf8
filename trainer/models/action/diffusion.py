"""Denoising diffusion of action chunks, with the ancestral and the deterministic sampler.

Ho et al. 2020, arXiv:2006.11239 (DDPM); Song et al. 2021, arXiv:2010.02502 (DDIM). A chunk a at
level n of N is x_n = sqrt(c_n) a + sqrt(1 - c_n) e with c falling from nearly 1 to nearly 0. Any
action expert serves: its output is read as the noise, as the chunk, or as Salimans and Ho's v.

Axes: B sample, T timestep, A numbers an action, N level.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from trainer.requirements import require, require_choice, require_positive

Schedule = Literal["squared_cosine", "linear"]
Prediction = Literal["noise", "chunk", "v"]
Sampler = Literal["ddim", "ddpm"]

# An output (B, T, A) at a noisy chunk (B, T, A) and times (B,) in [0, 1].
Denoiser = Callable[[Tensor, Tensor], Tensor]

# Squared cosines (Nichol & Dhariwal 2021, arXiv:2102.09672): offset, and the greatest step.
_COSINE_OFFSET = 0.008
_MAX_BETA = 0.999


@dataclass(frozen=True, kw_only=True)
class DiffusionConfig:
    """How noise is added and taken away.

    Attributes:
        num_levels: Levels of noise in training.
        schedule: How it grows: by squared cosines, or with variances that rise linearly.
        beta_start: First variance of the linear schedule.
        beta_end: Last variance of the linear schedule.
        prediction: What the network's output is.
        sampler: DDIM goes straight down; DDPM adds fresh noise at every level.
        num_steps: Of the sampler, at most num_levels.
        clip: Predicted chunks are kept within this of zero; None for no bound.
        repeats: Draws of level and noise for each observation.
        input_noise: Deviation of noise on every action and proprioception that the network reads.
    """

    num_levels: int = 100
    schedule: Schedule = "squared_cosine"
    beta_start: float = 1e-4
    beta_end: float = 0.02
    prediction: Prediction = "noise"
    sampler: Sampler = "ddim"
    num_steps: int = 10
    clip: float | None = 1.5
    repeats: int = 1
    input_noise: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "num_levels", "num_steps", "beta_start", "beta_end", "repeats")
        require_choice(
            self,
            schedule=get_args(Schedule),
            prediction=get_args(Prediction),
            sampler=get_args(Sampler),
        )
        require(
            self.num_steps <= self.num_levels,
            "num_steps",
            f"at most num_levels ({self.num_levels})",
            self.num_steps,
        )
        require(
            self.beta_start <= self.beta_end < 1,
            "beta_end",
            f"from beta_start ({self.beta_start}) up to 1",
            self.beta_end,
        )
        require(self.input_noise >= 0, "input_noise", "0 or more", self.input_noise)
        require(self.clip is None or self.clip > 0, "clip", "a positive number or None", self.clip)

    def kept(self, device: torch.device) -> Tensor:
        """c (N,): the share of the chunk's variance left at each level, in float64."""
        levels = torch.arange(self.num_levels + 1, dtype=torch.float64, device=device)
        if self.schedule == "linear":
            beta = torch.linspace(
                self.beta_start, self.beta_end, self.num_levels, dtype=torch.float64, device=device
            )
            return (1 - beta).cumprod(0)
        angle = (levels / self.num_levels + _COSINE_OFFSET) / (1 + _COSINE_OFFSET) * math.pi / 2
        share = angle.cos() ** 2
        beta = (1 - share[1:] / share[:-1]).clamp(max=_MAX_BETA)
        return (1 - beta).cumprod(0)


def noised(
    config: DiffusionConfig, chunk_BTA: Tensor, noise_BTA: Tensor, level_B: Tensor
) -> Tensor:
    """x_n."""
    kept_B11 = config.kept(chunk_BTA.device)[level_B][:, None, None].to(chunk_BTA.dtype)
    return kept_B11.sqrt() * chunk_BTA + (1 - kept_B11).sqrt() * noise_BTA


def diffusion_target(
    config: DiffusionConfig, chunk_BTA: Tensor, noise_BTA: Tensor, level_B: Tensor
) -> Tensor:
    """What the network's output should be."""
    if config.prediction == "noise":
        return noise_BTA
    if config.prediction == "chunk":
        return chunk_BTA
    kept_B11 = config.kept(chunk_BTA.device)[level_B][:, None, None].to(chunk_BTA.dtype)
    return kept_B11.sqrt() * noise_BTA - (1 - kept_B11).sqrt() * chunk_BTA


def diffusion_loss(
    config: DiffusionConfig,
    denoiser: Denoiser,
    chunk_BTA: Tensor,
    weight_BT: Tensor,
    *,
    noise_BTA: Tensor,
    level_B: Tensor,
) -> Tensor:
    """Mean squared error of the network's output over the timesteps of weight, a scalar."""
    noisy_BTA = noised(config, chunk_BTA, noise_BTA, level_B)
    output_BTA = denoiser(noisy_BTA, level_B / config.num_levels)
    target_BTA = diffusion_target(config, chunk_BTA, noise_BTA, level_B)
    error_BT = (output_BTA.float() - target_BTA.float()).square().mean(dim=-1)
    return (error_BT * weight_BT).sum() / weight_BT.sum().clamp(min=1e-6)


def denoise(
    config: DiffusionConfig,
    denoiser: Denoiser,
    noise_BTA: Tensor,
    *,
    generator: torch.Generator | None = None,
) -> Tensor:
    """From noise to a chunk in exactly `num_steps` steps, evenly spread over the levels."""
    kept_N = config.kept(noise_BTA.device)
    # From the noisiest level down; equal strides even where num_steps does not divide the levels.
    levels = [
        round(config.num_levels * (config.num_steps - step) / config.num_steps) - 1
        for step in range(config.num_steps)
    ]
    x_BTA = noise_BTA
    for level, following in zip(levels, [*levels[1:], None], strict=True):
        time_B = x_BTA.new_full((len(x_BTA),), level / config.num_levels)
        kept = float(kept_N[level])
        next_kept = 1.0 if following is None else float(kept_N[following])
        output_BTA = denoiser(x_BTA, time_B).to(x_BTA.dtype)
        chunk_BTA = _predicted_chunk(config, x_BTA, output_BTA, kept)
        noise = (x_BTA - math.sqrt(kept) * chunk_BTA) / math.sqrt(1 - kept)
        fresh = 0.0
        if config.sampler == "ddpm":
            # The posterior's deviation between the two levels.
            fresh = math.sqrt((1 - next_kept) / (1 - kept) * (1 - kept / next_kept))
        straight = math.sqrt(max(1 - next_kept - fresh**2, 0.0))
        x_BTA = math.sqrt(next_kept) * chunk_BTA + straight * noise
        if fresh > 0:
            drawn = torch.randn(x_BTA.shape, generator=generator, device=x_BTA.device)
            x_BTA = x_BTA + fresh * drawn.to(x_BTA.dtype)
    return x_BTA


def _predicted_chunk(
    config: DiffusionConfig, x_BTA: Tensor, output_BTA: Tensor, kept: float
) -> Tensor:
    if config.prediction == "chunk":
        chunk_BTA = output_BTA
    elif config.prediction == "noise":
        chunk_BTA = (x_BTA - math.sqrt(1 - kept) * output_BTA) / math.sqrt(kept)
    else:
        chunk_BTA = math.sqrt(kept) * x_BTA - math.sqrt(1 - kept) * output_BTA
    if config.clip is None:
        return chunk_BTA
    return chunk_BTA.clamp(-config.clip, config.clip)
