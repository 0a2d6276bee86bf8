"""Attention with grouped queries, rotary positions and normalised queries and keys.

Axes: B sample, S position, K key position, D width, H query head, G key/value head, d head width.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.key_value_cache import KeyValueCache
from trainer.models.language.masks import PreparedMask
from trainer.models.language.normalization import build_norm
from trainer.models.language.rotary import Rotation, rotate

_FEW_KEYS = 128

_compiled_flex_attention: Any = None


def attend(query_BHSd: Tensor, key_BGKd: Tensor, value_BGKd: Tensor, mask: PreparedMask) -> Tensor:
    """Softmax attention (B, H, S, d) through the kernel that the mask asks for."""
    if mask.block is not None:
        return _flex_attend(query_BHSd, key_BGKd, value_BGKd, mask)
    shares_heads = query_BHSd.shape[1] != key_BGKd.shape[1]
    if shares_heads and not (query_BHSd.is_cuda and mask.dense_B1QK is None):
        # Only the flash kernels of a GPU read shared heads in place.
        times = query_BHSd.shape[1] // key_BGKd.shape[1]
        key_BGKd = key_BGKd.repeat_interleave(times, dim=1)
        value_BGKd = value_BGKd.repeat_interleave(times, dim=1)
        shares_heads = False
    if _is_quicker_written_out(query_BHSd, key_BGKd):
        return _written_out(query_BHSd, key_BGKd, value_BGKd, mask)
    return functional.scaled_dot_product_attention(
        query_BHSd,
        key_BGKd,
        value_BGKd,
        attn_mask=mask.dense_B1QK,
        is_causal=mask.is_causal,
        enable_gqa=shares_heads,
    )


def _is_quicker_written_out(query_BHSd: Tensor, key_BHKd: Tensor) -> bool:
    """Whether a CPU trains on a few tokens in half precision.

    Forward and backward, torch's fused kernel for bfloat16 took 8 times as long for 16 tokens, 3
    times for 63 and as long for 256; in float32 it is the quicker one.
    """
    return (
        query_BHSd.device.type == "cpu"
        and query_BHSd.dtype != torch.float32
        and torch.is_grad_enabled()
        and key_BHKd.shape[2] <= _FEW_KEYS
    )


def _written_out(
    query_BHSd: Tensor, key_BHKd: Tensor, value_BHKd: Tensor, mask: PreparedMask
) -> Tensor:
    query_BHSd = query_BHSd * query_BHSd.shape[-1] ** -0.5
    score_BHSK = (query_BHSd @ key_BHKd.transpose(-1, -2)).float()
    hidden = None
    if mask.dense_B1QK is not None:
        hidden = ~mask.dense_B1QK
    elif mask.is_causal:
        hidden = torch.ones(score_BHSK.shape[-2:], dtype=torch.bool).triu(diagonal=1)
    if hidden is not None:
        score_BHSK = score_BHSK.masked_fill(hidden, float("-inf"))
    return score_BHSK.softmax(-1).to(value_BHKd.dtype) @ value_BHKd


def _flex_attend(query: Tensor, key: Tensor, value: Tensor, mask: PreparedMask) -> Tensor:
    from torch.nn.attention.flex_attention import flex_attention

    global _compiled_flex_attention
    shares_heads = query.shape[1] != key.shape[1]
    if not query.is_cuda or torch.compiler.is_compiling():
        function: Any = flex_attention
    else:
        # Uncompiled it would hold every score in memory.
        if _compiled_flex_attention is None:
            _compiled_flex_attention = torch.compile(flex_attention, dynamic=False)
        function = _compiled_flex_attention
    return function(query, key, value, block_mask=mask.block, enable_gqa=shares_heads)


class Attention(nn.Module):
    """(B, S, D) to (B, S, D): each position reads those that the mask lets it see."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.num_heads, self.num_groups = config.num_heads, config.num_groups
        self.head_width = config.width_of_head
        query_width = self.num_heads * self.head_width
        key_width = self.num_groups * self.head_width
        self.to_qkv = nn.Linear(config.width, query_width + 2 * key_width, bias=config.bias)
        self.from_heads = nn.Linear(query_width, config.width, bias=config.bias)
        self.qk_norm = config.qk_norm
        if config.qk_norm != "none":
            is_per_head = config.qk_norm == "per_head"
            widths = [self.head_width] * 2 if is_per_head else [query_width, key_width]
            self.query_norm = build_norm(config.norm, widths[0], config.norm_epsilon)
            self.key_norm = build_norm(config.norm, widths[1], config.norm_epsilon)

    def forward(
        self,
        x_BSD: Tensor,
        *,
        mask: PreparedMask,
        rotation: Rotation | None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
        prefix: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """What was read, and these positions' own keys and values (B, G, S, d).

        `prefix`: keys and values of positions before these, of another network.
        """
        query_BHSd, key_BGSd, value_BGSd = self._project(x_BSD, rotation)
        own = (key_BGSd, value_BGSd)
        if cache is not None:
            key_BGSd, value_BGSd = cache.extend(layer, key_BGSd, value_BGSd)
        if prefix is not None:
            key_BGSd = torch.cat([prefix[0].to(key_BGSd.dtype), key_BGSd], dim=2)
            value_BGSd = torch.cat([prefix[1].to(value_BGSd.dtype), value_BGSd], dim=2)
        read_BHSd = attend(query_BHSd, key_BGSd, value_BGSd, mask)
        return self.from_heads(read_BHSd.transpose(1, 2).flatten(2)), own

    def _project(self, x_BSD: Tensor, rotation: Rotation | None) -> tuple[Tensor, Tensor, Tensor]:
        """Queries (B, H, S, d), keys and values (B, G, S, d)."""
        heads, groups = self.num_heads, self.num_groups
        qkv_BSF = self.to_qkv(x_BSD)
        if self.qk_norm == "full_width":
            widths = [n * self.head_width for n in (heads, groups, groups)]
            query, key, value = qkv_BSF.split(widths, dim=-1)
            qkv_BSF = torch.cat([self.query_norm(query), self.key_norm(key), value], dim=-1)
        qkv_BSNd = qkv_BSF.unflatten(-1, (heads + 2 * groups, self.head_width))
        if self.qk_norm == "per_head" or rotation is None:
            query, key, value = qkv_BSNd.split([heads, groups, groups], dim=2)
            if self.qk_norm == "per_head":
                query, key = self.query_norm(query), self.key_norm(key)
            if rotation is not None:
                query, key = rotate(query, rotation), rotate(key, rotation)
        else:
            # Queries and keys turn alike, so they turn together.
            turned, value = qkv_BSNd.split([heads + groups, groups], dim=2)
            query, key = rotate(turned, rotation).split([heads, groups], dim=2)
        return query.transpose(1, 2), key.transpose(1, 2), value.transpose(1, 2)
