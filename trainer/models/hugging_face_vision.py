"""A Hugging Face vision tower in the place of our own ViT: CLIP, SigLIP, DINOv2.

Its weights come from a folder or hub name, in safetensors, or are drawn for a shape. What it gives
are the patches of its last hidden state: those that transformers gives, in their order, after
DINOv2's and SigLIP's final norm. CLIP's final norm was trained for the class token alone, and is
left out by transformers, too. Class and register tokens stand for no place in a picture, and are
dropped. So is what makes one vector of a picture, which nothing reads.

Axes: N image, C channel, H height, W width (pixels), h and w (patches), P token, D width.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from trainer.models.adaptation import AdaptationConfig, adapt
from trainer.models.hugging_face_common import (
    AdaptedModel,
    cleaned,
    load_pretrained,
    require_path_or_shape,
)
from trainer.requirements import require, require_positive

# By transformers' names of the architectures: of each what patches are not made of.
_UNREAD: Mapping[str, str] = {
    "clip_vision_model": "post_layernorm",
    "siglip_vision_model": "head",
    "dinov2": "embeddings.mask_token",
    "dinov2_with_registers": "embeddings.mask_token",
}
TOWERS = tuple(_UNREAD)

# They were trained to see pictures of any size; the others' positions are of one alone.
_OF_ANY_SIZE = ("dinov2", "dinov2_with_registers")


@dataclass(frozen=True, kw_only=True)
class HuggingFaceVisionConfig:
    """Which tower: a folder of weights, or a shape to begin from scratch.

    Attributes:
        path: Folder (or hub name) that `from_pretrained` reads, of a tower alone, or of one with
            the words that it was trained with; None for random weights.
        model_type: transformers' name of the architecture, when there is no path.
        overrides: Fields of its configuration, when there is no path.
        adaptation: How much of it is trained.
        image_mean: Of each channel, from 0 to 1, as its image processor has it.
        image_std: The deviation that each channel is divided by, likewise.
        shuffle_factor: Patches a side that the connector makes one token.
    """

    path: str | None = None
    model_type: str | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    adaptation: AdaptationConfig = field(default_factory=AdaptationConfig)
    image_mean: tuple[float, ...]
    image_std: tuple[float, ...]
    shuffle_factor: int = 1

    def __post_init__(self) -> None:
        require_path_or_shape(self.path, self.model_type, self.overrides)
        require_positive(self, "shuffle_factor")
        for name in ("image_mean", "image_std"):
            value = getattr(self, name)
            require(len(value) == 3, name, "three numbers, one a channel", value)
        require(all(self.image_std), "image_std", "no 0", self.image_std)


@dataclass(frozen=True, kw_only=True)
class PatchGrid:
    """How a tower cuts pictures.

    Attributes:
        patch_size: Pixels a side of a patch; what is left over at the ends is not seen.
        image_size: Pixels a side of the pictures that it was trained with.
        shuffle_factor: Patches a side that the connector makes one token.
        takes_any_size: Whether it sees other sizes, too.
    """

    patch_size: int
    image_size: int
    shuffle_factor: int
    takes_any_size: bool

    @staticmethod
    def of(model_type: str, overrides: Mapping[str, Any], shuffle_factor: int) -> PatchGrid:
        """Raises ConfigurationError for an architecture that is not known here."""
        require(model_type in TOWERS, "model_type", f"one of {', '.join(TOWERS)}", model_type)
        sides = {name: overrides[name] for name in ("patch_size", "image_size")}
        for name, side in sides.items():
            require(isinstance(side, int) and side > 0, name, "one positive number", side)
        any_size = model_type in _OF_ANY_SIZE
        return PatchGrid(**sides, shuffle_factor=shuffle_factor, takes_any_size=any_size)

    def num_tokens(self, height: int, width: int) -> int:
        """Of the language model, for an image of so many pixels. Raises ConfigurationError."""
        rows, columns = self.patches(height, width)
        return rows * columns // self.shuffle_factor**2

    def patches(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of them. Raises ConfigurationError for a size that cannot be."""
        own = (self.image_size, self.image_size)
        require(
            self.takes_any_size or (height, width) == own,
            "model.image_size",
            f"{self.image_size}, as the vision tower was trained with",
            max(height, width),
        )
        grid = (height // self.patch_size, width // self.patch_size)
        factor = self.shuffle_factor
        require(
            all(side > 0 and side % factor == 0 for side in grid),
            "vision.shuffle_factor",
            f"a divisor of the {grid[0]} x {grid[1]} patches of {self.patch_size} pixels that an "
            f"image of {height} x {width} has",
            factor,
        )
        return grid


class HuggingFaceVisionTower(AdaptedModel):
    """(N, 3, H, W) in [-1, 1] to (N, h, w, D), as our `VisionTransformer`."""

    mean_C11: Tensor
    std_C11: Tensor

    def __init__(self, config: HuggingFaceVisionConfig) -> None:
        super().__init__()
        # Here, so that who trains nothing of Hugging Face's needs no transformers.
        from transformers import AutoConfig, AutoModel

        self.config = config
        if config.path is not None:
            model: Any = load_pretrained(AutoModel, config.path, attention="sdpa")
        else:
            assert config.model_type is not None
            shape = AutoConfig.for_model(config.model_type, **cleaned(config.overrides))
            model = AutoModel.from_config(shape, attn_implementation="sdpa")
        # Of a model with words, what sees.
        self.model: Any = getattr(model, "vision_model", model)
        shape = self.model.config
        self.grid = PatchGrid.of(shape.model_type, vars(shape), config.shuffle_factor)
        _remove_unread(self.model)
        adapt(self.model, config.adaptation)
        # Not of the weights: they are in the configuration.
        for name, value in (("mean_C11", config.image_mean), ("std_C11", config.image_std)):
            self.register_buffer(name, torch.tensor(value).view(-1, 1, 1), persistent=False)

    @property
    def width(self) -> int:
        return self.model.config.hidden_size

    @property
    def image_size(self) -> int:
        """Pixels a side that it takes for sure."""
        return self.grid.image_size

    def blocks(self) -> nn.ModuleList:
        """What to compile and to shard one by one."""
        (blocks,) = (
            module for module in self.model.encoder.children() if isinstance(module, nn.ModuleList)
        )
        return blocks

    def forward(self, image_NCHW: Tensor) -> Tensor:
        grid = self.grid.patches(*image_NCHW.shape[-2:])
        pixel_NCHW = ((image_NCHW + 1) / 2 - self.mean_C11) / self.std_C11
        hidden_NPD = self.model(pixel_values=pixel_NCHW).last_hidden_state
        # Class and register tokens stand before the patches.
        return hidden_NPD[:, -grid[0] * grid[1] :].unflatten(1, grid)


def _remove_unread(tower: Any) -> None:
    """So that every weight has a gradient, and none is stored for nothing."""
    owner, _, name = _UNREAD[tower.config.model_type].rpartition(".")
    module = tower.get_submodule(owner)
    # Some folders lack SigLIP's head from the start.
    if isinstance(getattr(module, name, None), nn.Module):
        setattr(module, name, nn.Identity())
    elif hasattr(module, name):
        setattr(module, name, None)
