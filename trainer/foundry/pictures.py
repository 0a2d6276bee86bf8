"""A camera's picture, resized and cut as VLA Foundry's inference does, before the network."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from trainer.foundry.configuration import PictureConfig


def prepared(rgb: npt.NDArray[np.uint8], config: PictureConfig) -> npt.NDArray[np.uint8]:
    """From (H, W, 3) of any size."""
    from PIL import Image

    image: Any = Image.fromarray(np.ascontiguousarray(rgb))
    width, height = config.width, config.height
    if config.method == "resize_no_crop":
        image = image.resize((width, height), Image.Resampling.LANCZOS)
    else:
        ratios = (width / image.width, height / image.height)
        scale = max(ratios) if config.method == "center_crop" else min(ratios)
        inner = (max(1, int(image.width * scale)), max(1, int(image.height * scale)))
        image = image.resize(inner, Image.Resampling.LANCZOS)
        if config.method == "center_crop":
            image = _middle(image, width, height)
        else:
            black = Image.new("RGB", (width, height))
            black.paste(image, ((width - inner[0]) // 2, (height - inner[1]) // 2))
            image = black
    return np.asarray(
        _middle(image, min(config.crop_width, image.width), min(config.crop_height, image.height))
    )


def _middle(image: Any, width: int, height: int) -> Any:
    # Rounding may have left the image a pixel smaller than this; what is outside is black then.
    left, top = (image.width - width) // 2, (image.height - height) // 2
    return image.crop((left, top, left + width, top + height))
