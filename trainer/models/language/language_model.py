"""A decoder-only language model: embedding, blocks, norm, head.

Axes: B sample, S position, D width, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from trainer.models.language.configuration import LanguageConfig
from trainer.models.language.cross_entropy import CrossEntropy, cross_entropy
from trainer.models.language.key_value_cache import KeyValueCache
from trainer.models.language.masks import AttentionMask
from trainer.models.language.normalization import build_norm
from trainer.models.language.transformer import Transformer, TransformerOutput, truncated_normal_


class LanguageOutput(NamedTuple):
    """What a pass leaves.

    hidden_BSD: after the final norm: the head's input.
    loss: of the labels, if there were any.
    transformer: outputs of single blocks, and keys and values, as far as asked for.
    """

    hidden_BSD: Tensor
    loss: CrossEntropy | None
    transformer: TransformerOutput


class LanguageModel(nn.Module):
    """Tokens (B, S) to what comes next."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        shape = config.transformer
        self.embedding = nn.Embedding(config.vocabulary_size, shape.width)
        if config.post_embed_norm:
            self.embedding_norm = build_norm(shape.norm, shape.width, shape.norm_epsilon)
        self.transformer = Transformer(shape)
        self.norm = build_norm(shape.norm, shape.width, shape.norm_epsilon)
        self.head = nn.Linear(shape.width, config.vocabulary_size, bias=False)
        if config.tied_weights:
            self.head.weight = self.embedding.weight
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """The embedding's and the head's; blocks have initialised themselves."""
        shape = self.config.transformer
        deviation = 0.02 if shape.initialization == "normal" else shape.width**-0.5
        truncated_normal_(self.embedding.weight, deviation)
        if not self.config.tied_weights:
            truncated_normal_(self.head.weight, deviation)

    @property
    def width(self) -> int:
        return self.config.transformer.width

    @property
    def depth(self) -> int:
        return self.config.transformer.depth

    @property
    def vocabulary_size(self) -> int:
        return self.config.vocabulary_size

    def checkpoint_activations(self, enabled: bool = True) -> None:
        self.transformer.checkpoint_activations(enabled)

    def compile_blocks(self, **options: object) -> None:
        self.transformer.compile_blocks(**options)

    def embed(self, token_BS: Tensor) -> Tensor:
        """(B, S, D), before the norm that may follow."""
        return self.embedding(token_BS)

    def forward(
        self,
        token_BS: Tensor | None = None,
        *,
        embedded_BSD: Tensor | None = None,
        label_BS: Tensor | None = None,
        mask: AttentionMask | None = None,
        position_BS: Tensor | None = None,
        cache: KeyValueCache | None = None,
        num_layers: int = 0,
        with_keys_values: bool = False,
    ) -> LanguageOutput:
        """Of tokens, or of embeddings that already hold other things than words.

        `label_BS`: the token that should follow each position (`next_token_labels`).
        """
        if (token_BS is None) == (embedded_BSD is None):
            raise ValueError("give token_BS or embedded_BSD, and not both")
        x_BSD = self.embed(token_BS) if token_BS is not None else embedded_BSD
        assert x_BSD is not None
        if torch.is_autocast_enabled(x_BSD.device.type):
            # An embedding is no matrix product: without this the residual stream stays float32.
            x_BSD = x_BSD.to(torch.get_autocast_dtype(x_BSD.device.type))
        if self.config.post_embed_norm:
            x_BSD = self.embedding_norm(x_BSD)
        output = self.transformer(
            x_BSD,
            mask=mask,
            position_BS=position_BS,
            cache=cache,
            num_layers=num_layers,
            with_keys_values=with_keys_values,
        )
        hidden_BSD = self.norm(output.last_BSD)
        loss = None
        if label_BS is not None:
            loss = cross_entropy(
                hidden_BSD.flatten(0, 1),
                self.head.weight,
                label_BS.flatten(),
                z_loss=self.config.z_loss,
            )
        return LanguageOutput(hidden_BSD, loss, output)

    def logits(self, hidden_BSD: Tensor) -> Tensor:
        """(B, S, V) in float32: for few positions; training goes through `label_BS`."""
        return self.head(hidden_BSD).float()

    def new_cache(self, num_samples: int, capacity: int) -> KeyValueCache:
        shape = self.config.transformer
        weight = self.head.weight
        kind = weight.device.type
        is_mixed = torch.is_autocast_enabled(kind)
        return KeyValueCache(
            num_layers=shape.depth,
            num_samples=num_samples,
            num_heads=shape.num_groups,
            head_width=shape.width_of_head,
            capacity=capacity,
            device=weight.device,
            dtype=torch.get_autocast_dtype(kind) if is_mixed else weight.dtype,
        )
