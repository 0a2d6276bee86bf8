"""The shape of a policy of convolutions and a head."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainer.requirements import require, require_depth, require_positive

# A side of the image must leave a feature map worth reading after the strides (4 * 2).
MIN_IMAGE_SIDE = 32


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """One small convolutional encoder a camera.

    Attributes:
        stem_channels: Channels of the first, strided convolution.
        channels: Channels of the feature map.
        num_keypoints: Features whose place in the image is read.
        pooled_size: Side of the grid of averaged features beside the keypoints.
    """

    stem_channels: int = 32
    channels: int = 64
    num_keypoints: int = 32
    pooled_size: int = 3

    def __post_init__(self) -> None:
        require_positive(self, "stem_channels", "channels", "num_keypoints", "pooled_size")
        for name in ("stem_channels", "channels"):
            value = getattr(self, name)
            require(value % 8 == 0, name, "a multiple of 8 (normalisation groups)", value)


@dataclass(frozen=True, kw_only=True)
class FlowHeadConfig:
    """The transformer that denoises an action chunk.

    Attributes:
        width: Width of a token. It should exceed the numbers that a token stands for.
        depth: Transformer blocks.
        num_heads: Attention heads.
        mlp_ratio: Hidden units of a block's MLP, by its width.
        timesteps_per_token: Successive control steps that share one token.
        flow_times_per_image: Noise levels trained for each encoded image.
    """

    width: int = 192
    depth: int = 3
    num_heads: int = 4
    mlp_ratio: int = 3
    timesteps_per_token: int = 4
    flow_times_per_image: int = 4

    def __post_init__(self) -> None:
        require_positive(
            self,
            "width",
            "num_heads",
            "mlp_ratio",
            "timesteps_per_token",
            "flow_times_per_image",
        )
        require_depth(self)
        require(
            self.width % (2 * self.num_heads) == 0,
            "width",
            f"a multiple of twice num_heads ({2 * self.num_heads})",
            self.width,
        )


@dataclass(frozen=True, kw_only=True)
class DiffusionHeadConfig:
    """The convolutional diffusion policy's head: a U-Net over the chunk's time that tells noise.

    Chi et al. 2023, arXiv:2303.04137. It is trained as a DDPM and sampled by DDIM.

    Attributes:
        channels: Of each level; every level after the first has half the timesteps.
        kernel_size: Timesteps that a convolution sees; odd.
        num_levels: Levels of noise in training.
        levels_per_image: Of these, trained for each encoded image.
    """

    channels: tuple[int, ...] = (96, 192)
    kernel_size: int = 5
    num_levels: int = 100
    levels_per_image: int = 4

    def __post_init__(self) -> None:
        require_positive(self, "kernel_size", "num_levels", "levels_per_image")


@dataclass(frozen=True, kw_only=True)
class RegressionHeadConfig:
    """ACT's head without its latent style: a transformer that tells the chunk at once, by L1.

    Zhao et al. 2023, arXiv:2304.13705.

    Attributes:
        width: Of a token.
        decoder_depth: Transformer blocks.
        num_heads: Attention heads.
    """

    width: int = 192
    decoder_depth: int = 4
    num_heads: int = 4

    def __post_init__(self) -> None:
        require_positive(self, "width", "num_heads")
        require_depth(self, "decoder_depth")


BaselineHeadConfig = DiffusionHeadConfig | RegressionHeadConfig


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A policy of convolutions and a head.

    Attributes:
        vision: An encoder a camera; all cameras' tokens have flow_head.width.
        flow_head: The head, unless a baseline takes its place.
        baseline: Another head, to compare with.
    """

    vision: VisionConfig = field(default_factory=VisionConfig)
    flow_head: FlowHeadConfig = field(default_factory=FlowHeadConfig)
    baseline: BaselineHeadConfig | None = None
