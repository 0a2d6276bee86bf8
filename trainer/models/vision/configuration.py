"""The shapes of vision towers and of their connector to a language model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from trainer.models.configuration import MIN_IMAGE_SIDE, VisionConfig
from trainer.models.language.configuration import TransformerConfig
from trainer.models.vision.convolutional_stem import stem_strides
from trainer.models.vision.group_norm import CHANNELS_PER_GROUP
from trainer.requirements import ConfigurationError, require, require_choice, require_positive

ImagePositions = Literal["learned", "sinusoidal"]
ImageStem = Literal["patches", "convolutions"]

# Cameras times past steps; a stranger's checkpoint is not to ask for more than that.
_MOST_VIEWS = 256


@dataclass(frozen=True, kw_only=True)
class VisionTransformerConfig:
    """A ViT (Dosovitskiy et al. 2021, arXiv:2010.11929) without class or register tokens.

    Attributes:
        width: Numbers a patch.
        depth: Blocks.
        num_heads: Attention heads.
        feed_forward_width: Hidden units.
        patch_size: Pixels a side of a patch.
        image_size: Pixels a side of the image whose patches the learned positions name; other
            sizes and shapes interpolate them.
        stem: What makes numbers of a patch: one matrix, or small convolutions that overlap.
        positions: Learned, or sines and cosines of row and column.
        norm_epsilon: Added to the variance.
        shuffle_factor: Patches a side that the connector makes one token.
    """

    width: int
    depth: int
    num_heads: int
    feed_forward_width: int
    patch_size: int = 16
    image_size: int = 224
    stem: ImageStem = "patches"
    positions: ImagePositions = "learned"
    norm_epsilon: float = 1e-6
    shuffle_factor: int = 1

    def __post_init__(self) -> None:
        require_positive(self, "patch_size", "image_size", "shuffle_factor")
        require_choice(self, stem=get_args(ImageStem), positions=get_args(ImagePositions))
        if self.stem == "convolutions":
            self._check_stem()
        require(
            self.image_size % self.token_size == 0,
            "image_size",
            f"a multiple of patch_size * shuffle_factor ({self.token_size})",
            self.image_size,
        )
        require(
            self.positions != "sinusoidal" or self.width % 4 == 0,
            "width",
            "a multiple of 4, for sines and cosines of rows and columns",
            self.width,
        )
        _ = self.transformer

    @property
    def token_size(self) -> int:
        """Pixels a side of what becomes one token of the language model."""
        return self.patch_size * self.shuffle_factor

    @property
    def grid_size(self) -> int:
        """Patches a side of the image that the positions are learned for."""
        return self.image_size // self.patch_size

    @property
    def transformer(self) -> TransformerConfig:
        return TransformerConfig(
            width=self.width,
            depth=self.depth,
            num_heads=self.num_heads,
            feed_forward="gelu_tanh",
            feed_forward_width=self.feed_forward_width,
            norm="layer",
            norm_epsilon=self.norm_epsilon,
            bias=True,
            rotary_theta=None,
            causal=False,
            initialization="normal",
        )

    def _check_stem(self) -> None:
        try:
            stem_strides(self.patch_size)
        except ValueError as error:
            raise ConfigurationError(
                f"patch_size: expected, for a stem of convolutions, {error}"
            ) from error
        require(
            self.width % CHANNELS_PER_GROUP == 0,
            "width",
            f"a multiple of {CHANNELS_PER_GROUP}, for a stem of convolutions",
            self.width,
        )

    def num_tokens(self, height: int, width: int) -> int:
        """Tokens of the language model that an image of so many pixels takes."""
        self.require_image_size(height, width)
        return (height // self.token_size) * (width // self.token_size)

    def require_image_size(self, height: int, width: int) -> None:
        size = self.token_size
        if height % size or width % size or not height or not width:
            raise ValueError(
                f"an image has {height} x {width} pixels; both must be multiples of {size} "
                f"(patch_size {self.patch_size} x shuffle_factor {self.shuffle_factor}): "
                "resize or pad it"
            )


@dataclass(frozen=True, kw_only=True)
class ConvolutionalTowerConfig(VisionConfig):
    """A tower of convolutions that tells what is where in an image in a few tokens.

    Attributes:
        width: Numbers a token.
        tokens_per_image: Of the language model.
        image_size: Pixels a side that it is made for; it takes others.
        modulated_views: Images that a policy's observation has. Each is read in a way of its own,
            which the words decide as well (`trainer.models.vision.modulation`); 0 for one way for
            all. A vision-language model reads its pictures as they are.
        modulation_width: Hidden numbers of what the words and the view make of it.
    """

    width: int = 192
    tokens_per_image: int = 2
    image_size: int = 96
    modulated_views: int = 0
    modulation_width: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "width", "tokens_per_image", "modulation_width")
        require(
            0 <= self.modulated_views <= _MOST_VIEWS,
            "modulated_views",
            f"0 to {_MOST_VIEWS}",
            self.modulated_views,
        )
        require(
            self.image_size >= MIN_IMAGE_SIDE,
            "image_size",
            f"{MIN_IMAGE_SIDE} or more",
            self.image_size,
        )

    @property
    def shuffle_factor(self) -> int:
        """The connector leaves its tokens as they are."""
        return 1

    def num_tokens(self, height: int, width: int) -> int:
        """Tokens of the language model that an image of so many pixels takes."""
        self.require_image_size(height, width)
        return self.tokens_per_image

    def require_image_size(self, height: int, width: int) -> None:
        if min(height, width) < MIN_IMAGE_SIDE:
            raise ValueError(
                f"an image has {height} x {width} pixels; both must be {MIN_IMAGE_SIDE} or more"
            )


TowerConfig = VisionTransformerConfig | ConvolutionalTowerConfig
