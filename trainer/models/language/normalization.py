"""RMSNorm and LayerNorm, computed in float32 under any activation dtype."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.language.configuration import NormKind


class RmsNorm(nn.Module):
    """x / sqrt(mean x^2 + epsilon), times a weight (Zhang & Sennrich 2019, arXiv:1910.07467)."""

    def __init__(self, width: int, epsilon: float) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width))

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        # The mean square of bfloat16 numbers is taken in float32; the product with the weight is
        # in the activations' dtype, as Llama's is.
        wide = x.float()
        scale = torch.rsqrt(wide.square().mean(dim=-1, keepdim=True) + self.epsilon)
        return (wide * scale).to(x.dtype) * self.weight.to(x.dtype)


class LayerNorm(nn.Module):
    """Mean nought and variance one, in the dtype that it came in, whatever autocast prefers."""

    def __init__(self, width: int, epsilon: float, *, weight: bool, bias: bool) -> None:
        super().__init__()
        self.epsilon = epsilon
        self.weight = nn.Parameter(torch.ones(width)) if weight else None
        self.bias = nn.Parameter(torch.zeros(width)) if bias else None

    def reset_parameters(self) -> None:
        if self.weight is not None:
            nn.init.ones_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        # Autocast casts layer_norm's result to float32, which would make the residual stream
        # float32 and every following cast a pass over memory.
        weight = None if self.weight is None else self.weight.to(x.dtype)
        bias = None if self.bias is None else self.bias.to(x.dtype)
        with torch.autocast(x.device.type, enabled=False):
            return functional.layer_norm(x, x.shape[-1:], weight, bias, self.epsilon)


def build_norm(kind: NormKind, width: int, epsilon: float) -> RmsNorm | LayerNorm:
    if kind == "rms":
        return RmsNorm(width, epsilon)
    return LayerNorm(width, epsilon, weight=kind != "layer_without_weights", bias=kind == "layer")
