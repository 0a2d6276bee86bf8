"""Flow matching along straight lines: its loss, its times, its integration.

Lipman et al. 2023, arXiv:2210.02747. At time s in [0, 1] a noisy chunk is x_s = a + s (e - a), the
chunk a at s = 0 and the noise e at s = 1, as VLA Foundry has it. The network predicts the velocity
e - a; sampling follows it from 1 to 0.

Axes: B sample, T timestep, A numbers an action.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from trainer.models.action.configuration import Solver, TimeConfig

_SMALLEST_NOISE_SHARE = 0.25

# A velocity (B, T, A) at a noisy chunk (B, T, A) and times (B,).
Velocity = Callable[[Tensor, Tensor], Tensor]


def sample_times(
    config: TimeConfig, count: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    """Times (count,) in [0, 1], in float32."""
    time = _continuous_times(config, count, generator, device)
    if config.num_levels is None:
        return time
    return (time * config.num_levels).floor().clamp(max=config.num_levels - 1) / config.num_levels


def _continuous_times(
    config: TimeConfig, count: int, generator: torch.Generator, device: torch.device
) -> Tensor:
    uniform = torch.rand(count, generator=generator, device=device)
    if config.distribution == "uniform":
        return uniform
    if config.distribution == "logit_normal":
        normal = torch.randn(count, generator=generator, device=device)
        return torch.sigmoid(config.mean + config.deviation * normal)
    if config.beta == 1:
        # By inversion: the distribution function is s^alpha.
        return uniform ** (1 / config.alpha)
    if config.alpha == 1:
        return 1 - uniform ** (1 / config.beta)
    # torch's own distributions take no generator; a beta number is a ratio of gamma numbers, and
    # torch draws those only through this.
    shape = torch.tensor([config.alpha, config.beta], device=device).expand(count, 2)
    gamma = torch._standard_gamma(shape, generator=generator)  # pyright: ignore[reportPrivateImportUsage]
    return gamma[:, 0] / gamma.sum(dim=1)


def noisy_chunk(chunk_BTA: Tensor, noise_BTA: Tensor, time_B: Tensor) -> Tensor:
    """x_s, on the straight line from the chunk to the noise."""
    return chunk_BTA + time_B[:, None, None] * (noise_BTA - chunk_BTA)


def velocity_loss(
    velocity_BTA: Tensor, chunk_BTA: Tensor, noise_BTA: Tensor, weight_BT: Tensor
) -> Tensor:
    """Mean squared error of the velocity over the timesteps of weight, a scalar in float32."""
    error_BT = (velocity_BTA.float() - (noise_BTA - chunk_BTA).float()).square().mean(dim=-1)
    return (error_BT * weight_BT).sum() / weight_BT.sum().clamp(min=1e-6)


def chunk_loss(
    predicted_BTA: Tensor, chunk_BTA: Tensor, time_B: Tensor, weight_BT: Tensor
) -> Tensor:
    """The same error, of a network that predicts the chunk, a scalar in float32.

    A velocity is (x_s - a) / s, so its error is the chunk's divided by s; but for the last
    quarter of the flow, where that would outgrow everything else.
    """
    error_BT = (predicted_BTA.float() - chunk_BTA.float()).square().mean(dim=-1)
    scale_B1 = time_B.clamp(min=_SMALLEST_NOISE_SHARE).pow(-2)[:, None]
    return (scale_B1 * error_BT * weight_BT).sum() / weight_BT.sum().clamp(min=1e-6)


def integrate(
    velocity: Velocity,
    noise_BTA: Tensor,
    *,
    num_steps: int,
    solver: Solver = "euler",
    clamp: float | None = None,
) -> Tensor:
    """From noise to a chunk in exactly `num_steps` equal steps, whatever their number.

    Euler's error falls with the step's length, Heun's with its square. As in Karras et al. 2022
    (arXiv:2206.00364, algorithm 1) the last of Heun's steps is Euler's: at the flow's end a chunk
    that is predicted has no velocity.
    """

    def settled(x_BTA: Tensor) -> Tensor:
        return x_BTA if clamp is None else x_BTA.clamp(-clamp, clamp)

    x_BTA = settled(noise_BTA)
    for step in range(num_steps):
        # Fractions of whole numbers: the last step ends at nought, not near it.
        time_B = x_BTA.new_full((len(x_BTA),), (num_steps - step) / num_steps)
        slope_BTA = velocity(x_BTA, time_B).to(x_BTA.dtype)
        next_BTA = settled(x_BTA - slope_BTA / num_steps)
        if solver == "heun" and step < num_steps - 1:
            time_B = x_BTA.new_full((len(x_BTA),), (num_steps - step - 1) / num_steps)
            second_BTA = velocity(next_BTA, time_B).to(x_BTA.dtype)
            next_BTA = settled(x_BTA - (slope_BTA + second_BTA) / (2 * num_steps))
        x_BTA = next_BTA
    return x_BTA
