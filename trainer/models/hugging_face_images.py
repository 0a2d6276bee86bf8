"""How Hugging Face's vision-language models take pictures: in numbers, in shapes, in tokens.

Axes: B sample, S token, N image, C channel, H W its sides, P patch, X numbers of a patch.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from trainer.models.backbone import VisionLanguageInput
from trainer.requirements import require

Family = Literal["qwen", "smolvlm", "paligemma"]

# By transformers' names of the architectures.
FAMILIES: Mapping[str, Family] = {
    "qwen2_vl": "qwen",
    "qwen2_5_vl": "qwen",
    "qwen3_vl": "qwen",
    "smolvlm": "smolvlm",
    "idefics3": "smolvlm",
    "paligemma": "paligemma",
}


def image_token_of(overrides: Mapping[str, Any]) -> Any:
    """The place holder that a model's configuration has, under either of its names."""
    return overrides.get("image_token_id", overrides.get("image_token_index"))


@dataclass(frozen=True, kw_only=True)
class ImageTaking:
    """Square pictures of one size, as a model of a family takes them.

    patch_size: pixels a side. merged: patches a side that become one token of the language model.
    frames: how often a still picture is repeated in time. mean, std: by channel, of values from 0
    to 1.
    """

    family: Family
    image_size: int
    patch_size: int
    merged: int
    frames: int
    mean: Sequence[float]
    std: Sequence[float]

    @staticmethod
    def of(
        model_type: str,
        overrides: Mapping[str, Any],
        *,
        image_size: int,
        mean: Sequence[float],
        std: Sequence[float],
    ) -> ImageTaking:
        """Raises ConfigurationError for an architecture that is not known here, or another size."""
        require(model_type in FAMILIES, "model_type", f"one of {', '.join(FAMILIES)}", model_type)
        family, vision = FAMILIES[model_type], overrides.get("vision_config", {})
        merged = {
            "qwen": vision.get("spatial_merge_size", 2),
            "smolvlm": overrides.get("scale_factor", 2),
            "paligemma": 1,
        }[family]
        taking = ImageTaking(
            family=family,
            image_size=image_size,
            patch_size=vision.get("patch_size", 14),
            merged=merged,
            frames=vision.get("temporal_patch_size", 2) if family == "qwen" else 1,
            mean=mean,
            std=std,
        )
        token_size = taking.patch_size * merged
        require(
            image_size > 0 and image_size % token_size == 0,
            "model.image_size",
            f"a multiple of the {token_size} pixels a side of what becomes a token",
            image_size,
        )
        own = vision.get("image_size")
        require(
            family == "qwen" or own in (None, image_size),
            "model.image_size",
            f"{own}, as the model was trained with",
            image_size,
        )
        return taking

    @property
    def tokens_per_image(self) -> int:
        return (self.image_size // (self.patch_size * self.merged)) ** 2

    def inputs(
        self,
        image_NCHW: Tensor | None,
        token_BS: Tensor,
        valid_BS: Tensor,
        *,
        image_token: int,
        is_prefix_BS: Tensor | None = None,
    ) -> VisionLanguageInput:
        """image: in [-1, 1], those of the first sample first; None for words alone.

        is_prefix_BS: what comes before a dialogue's first answer; without it all does.
        """
        extras: dict[str, Tensor] = {}
        if self.family == "qwen":
            extras = {"mm_token_type_ids": (token_BS == image_token).int()}
        elif self.family == "paligemma":
            # Tokens of the prefix see each other in both directions.
            kinds_BS = torch.zeros_like(token_BS) if is_prefix_BS is None else ~is_prefix_BS
            extras = {"token_type_ids": kinds_BS.to(token_BS.dtype)}
        pixels = None
        if image_NCHW is not None:
            pixels = self._pixels(image_NCHW)
            if self.family == "qwen":
                side = self.image_size // self.patch_size
                grid = torch.tensor([1, side, side], device=token_BS.device)
                extras["image_grid_thw"] = grid.expand(len(image_NCHW), -1)
        return VisionLanguageInput(
            token_BS=token_BS, valid_BS=valid_BS, images=pixels, extras=extras
        )

    def _pixels(self, image_NCHW: Tensor) -> Tensor:
        """In numbers and shape as the family's image processor makes them."""
        shape = (1, 3, 1, 1)
        mean = torch.tensor(tuple(self.mean), device=image_NCHW.device).view(shape)
        std = torch.tensor(tuple(self.std), device=image_NCHW.device).view(shape)
        pixels = ((image_NCHW + 1) / 2 - mean) / std
        if self.family == "qwen":
            return self._patches(pixels)
        # A sample has as many as its words have places for, whichever row they lie in here.
        return pixels[None] if self.family == "smolvlm" else pixels

    def _patches(self, pixel_NCHW: Tensor) -> Tensor:
        """(N P, X): patches that become one token stand next to each other, each of them repeated
        in time, channels first."""
        merged, size = self.merged, self.patch_size
        blocks = self.image_size // (merged * size)
        cut = pixel_NCHW.reshape(-1, 3, blocks, merged, size, blocks, merged, size)
        # To image, block row, block column, row and column within it, channel, time, pixels.
        ordered = cut.permute(0, 2, 5, 3, 6, 1, 4, 7).unsqueeze(6)
        return ordered.expand(*[-1] * 6, self.frames, -1, -1).reshape(
            -1, 3 * self.frames * size * size
        )
