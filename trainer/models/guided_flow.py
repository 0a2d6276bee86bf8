"""A flow whose chunk agrees with another that is being executed: real-time chunking.

After Black, Galliker and Levine 2025, "Real-Time Execution of Action Chunking Flow Policies"
(arXiv:2506.07339), equations 2 to 5: inpainting by pseudo-inverse guidance with a soft mask. What
is known, y with weights w in [0, 1], pulls the flow by a vector-Jacobian product through the head,

    velocity = (a' - x) / (1 - t) + min(beta, (t^2 + (1 - t)^2) / (t (1 - t))) J^T w (y - a)

where a is the head's clean chunk at x, and J = da / dx. Two things are particular to us. The head
predicts a itself, so that J is the head's own. And a' = a + w (y - a) stands in a's place: J alone
carries too little, because the Jacobian of a policy whose observation all but decides the chunk
nearly vanishes (with the shipped checkpoint guidance alone took 42 mm of error in the frozen steps
to 28 mm, and a seam of 64 mm to 49 mm, where a control step's own motion is 20 mm; with a' these
are 0 mm and 18 mm). For a frozen step, w = 1, a' is what conditioning on y means: y itself.

Axes: B sample, T timestep, A numbers an action.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from policy_interface.types import FloatArray
from trainer.models.chunk_policy import ChunkHead

# The paper's beta: without a bound the weight is infinite at t = 0, and few steps overshoot.
_MAX_GUIDANCE = 5.0


def soft_mask(*, num_frozen: int, num_known: int, chunk_length: int) -> FloatArray:
    """Weights (T,): 1 on frozen steps, falling exponentially to the last known one, then 0."""
    step_T = np.arange(chunk_length)
    remaining_T = (num_known - step_T) / (num_known - num_frozen + 1)
    falling_T = remaining_T * np.expm1(remaining_T) / math.expm1(1.0)
    return np.where(step_T < num_frozen, 1.0, np.where(step_T < num_known, falling_T, 0.0))


def integrate_guided_flow(
    head: ChunkHead,
    conditioning: Any,
    noise_BTA: Tensor,
    num_steps: int,
    *,
    known_BTA: Tensor,
    weight_BT: Tensor,
    bound: float | None = None,
) -> Tensor:
    """From noise to a chunk that agrees with `known_BTA` as far as `weight_BT` says.

    By Euler steps, whatever solver free plans have; steps of weight 1 end at exactly what is known.
    bound: as ChunkPolicy has it; what is known is under none.
    """
    weight_BT1 = weight_BT[..., None]
    is_free_BT1 = (weight_BT1 < 1).to(noise_BTA.dtype)
    x_BTA = noise_BTA
    for step in range(num_steps):
        time = step / num_steps
        time_B = torch.full((len(x_BTA),), time, device=x_BTA.device)
        with torch.enable_grad():
            x_BTA = x_BTA.detach().requires_grad_()
            clean_BTA = head(x_BTA, time_B, conditioning)
            pull_BTA = weight_BT1 * (known_BTA - clean_BTA.detach())
            (guidance_BTA,) = torch.autograd.grad(clean_BTA, x_BTA, pull_BTA)
        x_BTA = x_BTA.detach()
        agreed_BTA = torch.where(weight_BT1 < 1, clean_BTA.detach() + pull_BTA, known_BTA)
        x_BTA = (
            x_BTA
            + (agreed_BTA - x_BTA) / (num_steps - step)
            + (_guidance_weight(time) / num_steps) * is_free_BT1 * guidance_BTA
        )
        if bound is not None:
            x_BTA = torch.where(weight_BT1 < 1, x_BTA.clamp(-bound, bound), x_BTA)
    return x_BTA


def _guidance_weight(time: float) -> float:
    if time == 0:
        return _MAX_GUIDANCE
    return min(_MAX_GUIDANCE, (time**2 + (1 - time) ** 2) / (time * (1 - time)))
