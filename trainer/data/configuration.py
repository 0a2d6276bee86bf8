"""How demonstrations come to the network: scaled, with noise, ahead of time."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from trainer.requirements import require, require_positive

NormalizationScope = Literal["global", "per_timestep"]
NormalizationMethod = Literal["quantiles", "min_max", "std"]


@dataclass(frozen=True, kw_only=True)
class NormalizationConfig:
    """How poses and widths become numbers of order one.

    The floors keep an arm that hardly moved from being scaled up into noise.

    Attributes:
        scope: One scale a number, or one for each timestep of the chunk.
        method: Maps a range of quantiles, or from least to greatest, to -1 to 1; or divides by
            the standard deviation.
        centered: Ranges map to -1 to 1, otherwise to 0 to 1; std is always about the mean.
        lower_quantile: Maps to -1; what lies below is not clipped.
        upper_quantile: Maps to 1; what lies above is not clipped.
        translation_floor_m: Least scale of a translation.
        rotation_floor: Least scale of a rotation's numbers.
        width_floor_m: Least scale of a gripper's width.
    """

    scope: NormalizationScope = "global"
    method: NormalizationMethod = "quantiles"
    centered: bool = True
    lower_quantile: float = 0.01
    upper_quantile: float = 0.99
    translation_floor_m: float = 0.02
    rotation_floor: float = 0.1
    width_floor_m: float = 0.01

    def __post_init__(self) -> None:
        require(
            self.centered or self.method != "std",
            "centered",
            "true where method is 'std'",
            self.centered,
        )
        require(
            0 <= self.lower_quantile < self.upper_quantile <= 1,
            "lower_quantile, upper_quantile",
            "0 <= lower < upper <= 1",
            (self.lower_quantile, self.upper_quantile),
        )
        require_positive(self, "translation_floor_m", "rotation_floor", "width_floor_m")


@dataclass(frozen=True, kw_only=True)
class AugmentationConfig:
    """Noise on what the policy sees, so that it does not lean on a pixel or a millimetre.

    Attributes:
        shift_pixels: Each image moves by up to so many pixels each way, its edges repeated.
        brightness: Greatest offset of an image, whose values lie in -1 to 1.
        contrast: Greatest relative change of an image's contrast.
        crop_fraction: Least part of an image's sides that is kept, then enlarged to the whole; 1
            keeps all.
        saturation: Greatest relative change of how far colours are from grey.
        hue: Greatest turn of colours about grey, in turns.
        blur_pixels: Greatest standard deviation of a Gaussian blur; 0 leaves images sharp.
        proprioception_noise: Standard deviation in normalised units.
    """

    shift_pixels: int = 2
    brightness: float = 0.15
    contrast: float = 0.15
    crop_fraction: float = 1.0
    saturation: float = 0.0
    hue: float = 0.0
    blur_pixels: float = 0.0
    proprioception_noise: float = 0.02

    def __post_init__(self) -> None:
        require(self.shift_pixels >= 0, "shift_pixels", "0 or more", self.shift_pixels)
        for name in ("brightness", "contrast", "saturation"):
            value = getattr(self, name)
            require(0 <= value < 1, name, "0 <= jitter < 1", value)
        require(
            0 < self.crop_fraction <= 1, "crop_fraction", "0 < fraction <= 1", self.crop_fraction
        )
        require(0 <= self.hue <= 0.5, "hue", "0 to 0.5 turns", self.hue)
        require(self.blur_pixels >= 0, "blur_pixels", "0 or more", self.blur_pixels)
        require(
            self.proprioception_noise >= 0,
            "proprioception_noise",
            "0 or more",
            self.proprioception_noise,
        )


@dataclass(frozen=True, kw_only=True)
class LoaderConfig:
    """How frames come to the network: never which, so that it may change when a run goes on.

    Attributes:
        cache_gib: Data sets whose decoded frames fit in so much memory are kept there; others are
            decoded anew for each batch.
        num_workers: Processes that decode; None takes as many as there are cores, up to eight.
        num_batches_ahead: Batches that are decoded before they are asked for.
    """

    cache_gib: float = 4.0
    num_workers: int | None = None
    num_batches_ahead: int = 3

    def __post_init__(self) -> None:
        require(self.cache_gib >= 0, "cache_gib", "0 or more", self.cache_gib)
        require(
            self.num_workers is None or self.num_workers > 0,
            "num_workers",
            "a positive number",
            self.num_workers,
        )
        require_positive(self, "num_batches_ahead")
