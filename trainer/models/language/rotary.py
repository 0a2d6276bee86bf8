"""Rotary positions (Su et al. 2021, arXiv:2104.09864), halves of a head turned against each other.

Angles are computed and applied in float32 whatever the activations are. Rounding the frequencies to
bfloat16, as several implementations do, gives a model that sees other positions when it is served
in float32.

Axes: B sample, S position, H head, d width of a head, r = d / 2.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Rotation(NamedTuple):
    """Cosines and sines (B or 1, S, 1, r), in float32."""

    cosine: Tensor
    sine: Tensor


def rotation_of(position_BS: Tensor, head_width: int, theta: float) -> Rotation:
    """For positions (B or 1, S); nothing is stored that a cast of the model could round."""
    exponent_r = torch.arange(0, head_width, 2, device=position_BS.device).float() / head_width
    frequency_r = 1.0 / theta**exponent_r
    # Autocast would leave this alone; an outer product by einsum it would not.
    angle_BS1r = position_BS[:, :, None, None].float() * frequency_r
    return Rotation(angle_BS1r.cos(), angle_BS1r.sin())


def rotate(x_BSHd: Tensor, rotation: Rotation) -> Tensor:
    """Turned by the angles of its position, in the dtype that it came in."""
    first, second = x_BSHd.float().chunk(2, dim=-1)
    cosine, sine = rotation
    return torch.cat([first * cosine - second * sine, second * cosine + first * sine], dim=-1).to(
        x_BSHd.dtype
    )
