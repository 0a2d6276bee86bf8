"""Blocks of attention and feed-forward layers, each reading a normalised copy of its input.

Axes: B sample, S position, D width, F hidden width, G key/value head, d head width.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from typing import NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from trainer.models.language.attention import Attention
from trainer.models.language.configuration import TransformerConfig
from trainer.models.language.key_value_cache import KeyValueCache
from trainer.models.language.masks import AttentionMask, PreparedMask
from trainer.models.language.normalization import build_norm
from trainer.models.language.rotary import Rotation, rotation_of

_MAX_VARIANTS = 64


class FeedForward(nn.Module):
    """SwiGLU (Shazeer 2020, arXiv:2002.05202), gate and value in one matrix; or GELU."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.kind = config.feed_forward
        hidden = config.hidden_width
        parts = 2 if self.kind == "swiglu" else 1
        self.to_hidden = nn.Linear(config.width, parts * hidden, bias=config.bias)
        self.from_hidden = nn.Linear(hidden, config.width, bias=config.bias)

    def forward(self, x_BSD: Tensor) -> Tensor:
        hidden = self.to_hidden(x_BSD)
        if self.kind == "swiglu":
            gate, value = hidden.chunk(2, dim=-1)
            return self.from_hidden(functional.silu(gate) * value)
        approximate = "tanh" if self.kind == "gelu_tanh" else "none"
        return self.from_hidden(functional.gelu(hidden, approximate=approximate))


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, config: TransformerConfig, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.attention_norm = build_norm(config.norm, config.width, config.norm_epsilon)
        self.attention = Attention(config)
        self.feed_forward_norm = build_norm(config.norm, config.width, config.norm_epsilon)
        self.feed_forward = FeedForward(config)

    def forward(
        self,
        x_BSD: Tensor,
        mask: PreparedMask,
        rotation: Rotation | None,
        cache: KeyValueCache | None = None,
        prefix: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        read_BSD, keys_values = self.attention(
            self.attention_norm(x_BSD),
            mask=mask,
            rotation=rotation,
            cache=cache,
            # Read only with a cache: a compiler that saw the number would compile every layer.
            layer=0 if cache is None else self.layer,
            prefix=prefix,
        )
        x_BSD = x_BSD + read_BSD
        return x_BSD + self.feed_forward(self.feed_forward_norm(x_BSD)), keys_values


class _Blocks(nn.ModuleList):
    """A list whose items are known to be blocks."""

    def __iter__(self) -> Iterator[Block]:
        return cast("Iterator[Block]", super().__iter__())


class TransformerOutput(NamedTuple):
    """What a pass leaves.

    last_BSD: the last block's output, not normalised.
    layers: outputs of the last blocks that were asked for, in order, the last one included.
    keys_values: for each block its positions' keys and values (B, G, S, d), if asked for.
    """

    last_BSD: Tensor
    layers: tuple[Tensor, ...]
    keys_values: tuple[tuple[Tensor, Tensor], ...]


class Transformer(nn.Module):
    """The blocks alone: no embedding, no head, no final norm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.config = config
        self.blocks = _Blocks(Block(config, layer) for layer in range(config.depth))
        self.checkpoints_activations = False
        self.reset_parameters()

    def reset_parameters(self) -> None:
        for block in self.blocks:
            for module in block.modules():
                if isinstance(module, nn.Linear):
                    _initialize(module, self.config, layer=None)
            for module in (block.attention.from_heads, block.feed_forward.from_hidden):
                _initialize(module, self.config, layer=block.layer)

    def checkpoint_activations(self, enabled: bool = True) -> None:
        """Keep a block's input alone and compute its inside again in the backward pass."""
        self.checkpoints_activations = enabled

    def compile_blocks(self, **options: object) -> None:
        """Compile each block in place: they share one graph, so that it is compiled once."""
        # To torch the blocks of all parts of a network are one function; of their widths, masks
        # and lengths, in training and out of it, it would compile eight and leave the others. What
        # is configured of its compiler itself holds in one thread alone.
        if "recompile_limit" in inspect.signature(torch.compile).parameters:
            options = {"recompile_limit": _MAX_VARIANTS, **options}
        for block in self.blocks:
            cast("Callable[..., None]", block.compile)(**options)

    def forward(
        self,
        x_BSD: Tensor,
        *,
        mask: AttentionMask | None = None,
        position_BS: Tensor | None = None,
        cache: KeyValueCache | None = None,
        num_layers: int = 0,
        with_keys_values: bool = False,
    ) -> TransformerOutput:
        """`num_layers`: how many of the last blocks' outputs to keep."""
        first = 0 if cache is None else cache.length
        num_positions = x_BSD.shape[1]
        if mask is None:
            mask = AttentionMask(causal=self.config.causal, first_query=first)
        prepared = mask.prepared(
            self.config.attention, num_positions, first + num_positions, x_BSD.device
        )
        rotation = self.rotation(position_BS, first, num_positions, x_BSD.device)
        layers: list[Tensor] = []
        keys_values: list[tuple[Tensor, Tensor]] = []
        for block in self.blocks:
            x_BSD, own = self.run_block(block, x_BSD, prepared, rotation, cache)
            if self.config.depth - block.layer <= num_layers:
                layers.append(x_BSD)
            if with_keys_values:
                keys_values.append(own)
        if cache is not None:
            cache.advance(num_positions)
        return TransformerOutput(x_BSD, tuple(layers), tuple(keys_values))

    def rotation(
        self, position_BS: Tensor | None, first: int, num_positions: int, device: torch.device
    ) -> Rotation | None:
        """Of the given positions, or of those from `first` on."""
        if self.config.rotary_theta is None:
            return None
        if position_BS is None:
            position_BS = torch.arange(first, first + num_positions, device=device)[None]
        return rotation_of(position_BS, self.config.width_of_head, self.config.rotary_theta)

    def run_block(
        self,
        block: Block,
        x_BSD: Tensor,
        mask: PreparedMask,
        rotation: Rotation | None,
        cache: KeyValueCache | None = None,
        prefix: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """A block's output and keys and values, its inside forgotten if asked for."""
        if self.checkpoints_activations and cache is None and torch.is_grad_enabled():
            return checkpoint(block, x_BSD, mask, rotation, None, prefix, use_reentrant=False)
        return block(x_BSD, mask, rotation, cache, prefix)


def _initialize(module: nn.Linear, config: TransformerConfig, *, layer: int | None) -> None:
    """`layer` is given for a matrix that writes to the residual stream."""
    if config.initialization == "normal":
        nn.init.normal_(module.weight, std=0.02)
    else:
        deviation = config.width**-0.5
        if layer is not None:
            deviation /= (2 * (layer + 1)) ** 0.5
        truncated_normal_(module.weight, deviation)
    if module.bias is not None:
        nn.init.zeros_(module.bias)


def truncated_normal_(weight: Tensor, deviation: float) -> None:
    """Normal, cut at three deviations."""
    nn.init.trunc_normal_(weight, std=deviation, a=-3 * deviation, b=3 * deviation)
