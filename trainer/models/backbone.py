"""What a vision-language backbone takes, and what it tells an action expert.

Axes: B sample, S token, D width, N image, G key/value head, d width of a head.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import torch
from torch import Tensor


@dataclass(frozen=True, kw_only=True)
class VisionLanguageInput:
    """Text with images in it, padded to one length.

    Attributes:
        token_BS: Tokens; an image's places hold the backbone's image token.
        valid_BS: Which tokens are real; None for all.
        images: (N, 3, H, W), those of the first sample first; the pixels that a Hugging Face
            processor made, whatever their shape; None for text alone.
        extras: What else the backbone's processor made (`image_grid_thw`, `token_type_ids`).
    """

    token_BS: Tensor
    valid_BS: Tensor | None = None
    images: Tensor | None = None
    extras: Mapping[str, Tensor] = field(default_factory=dict)

    @property
    def valid(self) -> Tensor:
        """(B, S), true throughout where nothing is padding."""
        if self.valid_BS is not None:
            return self.valid_BS
        return torch.ones_like(self.token_BS, dtype=torch.bool)


class BackboneFeatures(NamedTuple):
    """What was seen and read.

    layers: outputs (B, S, D) of the last blocks that were asked for.
    valid_BS: which of those tokens are real.
    keys_values: of every block (B, G, S, d), already turned by their positions; empty where not
        asked for.
    next_position_B: the position that a token after the real ones has.
    """

    layers: tuple[Tensor, ...]
    valid_BS: Tensor
    keys_values: tuple[tuple[Tensor, Tensor], ...]
    next_position_B: Tensor

    @property
    def observation_B1F(self) -> Tensor:
        """The last token's outputs of all those blocks, side by side."""
        return torch.cat([layer[:, -1:] for layer in self.layers], dim=-1)


class Backbone(Protocol):
    """A vision-language model that an action expert can stand on."""

    @property
    def width(self) -> int:
        """Numbers a token."""
        ...

    @property
    def depth(self) -> int:
        """Blocks of the language model."""
        ...

    def features(
        self,
        inputs: VisionLanguageInput,
        *,
        num_layers: int,
        with_observation_token: bool = False,
        with_keys_values: bool = False,
    ) -> BackboneFeatures:
        """Outputs of the last `num_layers` blocks.

        `with_observation_token`: one more token behind the rest, made to be read from. It and the
        keys and values see no padding.
        """
        ...
