"""The shape of a transformer, and of the language model around it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trainer.requirements import require, require_choice, require_depth, require_positive

NormKind = Literal["rms", "layer", "layer_without_bias", "layer_without_weights"]
FeedForwardKind = Literal["swiglu", "gelu", "gelu_tanh"]
QueryKeyNorm = Literal["none", "per_head", "full_width"]
AttentionBackend = Literal["sdpa", "flex"]
Initialization = Literal["depth_scaled", "normal"]

_SWIGLU_MULTIPLE = 256


@dataclass(frozen=True, kw_only=True)
class TransformerConfig:
    """Blocks of attention and feed-forward layers, normalised before each.

    Attributes:
        width: Numbers a token.
        depth: Blocks.
        num_heads: Query heads.
        num_key_value_heads: Key and value heads, each shared by as many queries; None for all.
        head_width: Numbers a head; None for width / num_heads.
        feed_forward: SwiGLU, or a GELU (exact, or by tanh) between two matrices.
        feed_forward_width: Hidden units; None for 8/3 width rounded up to 256 (SwiGLU), 4 width.
        norm: RMSNorm, or LayerNorm with both, without a bias, or without either parameter.
        norm_epsilon: Added to the mean square.
        qk_norm: Of queries and keys: over each head's numbers, or over all heads' at once.
        bias: Whether matrices have biases.
        rotary_theta: Base of the rotary frequencies; None for no rotary positions.
        causal: Whether a position sees only itself and what came before.
        attention: FlexAttention makes masks of documents and prefixes cheap on a GPU.
        initialization: Truncated normal of deviation 1 / sqrt(width), matrices that write to the
            residual stream divided by sqrt(2 (layer + 1)); or normal of deviation 0.02.
    """

    width: int
    depth: int
    num_heads: int
    num_key_value_heads: int | None = None
    head_width: int | None = None
    feed_forward: FeedForwardKind = "swiglu"
    feed_forward_width: int | None = None
    norm: NormKind = "rms"
    norm_epsilon: float = 1e-5
    qk_norm: QueryKeyNorm = "none"
    bias: bool = False
    rotary_theta: float | None = 10_000.0
    causal: bool = True
    attention: AttentionBackend = "sdpa"
    initialization: Initialization = "depth_scaled"

    def __post_init__(self) -> None:
        require_positive(self, "width", "num_heads", "norm_epsilon")
        require_depth(self)
        for name in ("num_key_value_heads", "head_width", "feed_forward_width", "rotary_theta"):
            value = getattr(self, name)
            require(value is None or value > 0, name, "a positive number or None", value)
        require_choice(
            self,
            feed_forward=get_args(FeedForwardKind),
            norm=get_args(NormKind),
            qk_norm=get_args(QueryKeyNorm),
            attention=get_args(AttentionBackend),
            initialization=get_args(Initialization),
        )
        require(
            self.head_width is not None or self.width % self.num_heads == 0,
            "width",
            f"a multiple of num_heads ({self.num_heads}), or head_width given",
            self.width,
        )
        require(
            self.num_heads % self.num_groups == 0,
            "num_key_value_heads",
            f"a divisor of num_heads ({self.num_heads})",
            self.num_key_value_heads,
        )
        require(
            self.rotary_theta is None or self.width_of_head % 2 == 0,
            "head_width",
            "an even number, which rotary positions turn in pairs",
            self.width_of_head,
        )

    @property
    def num_groups(self) -> int:
        """Key and value heads."""
        return self.num_key_value_heads or self.num_heads

    @property
    def width_of_head(self) -> int:
        return self.head_width or self.width // self.num_heads

    @property
    def hidden_width(self) -> int:
        """Hidden units of the feed-forward layer."""
        if self.feed_forward_width is not None:
            return self.feed_forward_width
        if self.feed_forward != "swiglu":
            return 4 * self.width
        return -(-(8 * self.width // 3) // _SWIGLU_MULTIPLE) * _SWIGLU_MULTIPLE


@dataclass(frozen=True, kw_only=True)
class LanguageConfig:
    """A decoder-only language model.

    Attributes:
        transformer: Its blocks.
        vocabulary_size: Rows of the embedding and of the head.
        context_length: Longest sequence that it is meant for; rotary positions set no bound.
        post_embed_norm: Whether embeddings are normalised before the first block.
        tied_weights: Whether the head is the embedding.
        z_loss: Weight of the squared log-partition, which keeps logits from drifting.
    """

    transformer: TransformerConfig
    vocabulary_size: int
    context_length: int = 2048
    post_embed_norm: bool = False
    tied_weights: bool = False
    z_loss: float = 0.0

    def __post_init__(self) -> None:
        require_positive(self, "vocabulary_size", "context_length")
        require(self.z_loss >= 0, "z_loss", "0 or more", self.z_loss)
