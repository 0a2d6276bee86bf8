"""Colours, type and text of what we draw."""

from __future__ import annotations

from functools import cache

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

Colour = tuple[int, int, int]

# More than any picture is wide; Pillow takes long over a novel, and refuses a library.
_MOST_CHARACTERS = 2000

GROUND: Colour = (15, 18, 22)
PANEL: Colour = (24, 28, 34)
RULE: Colour = (52, 58, 67)
INK: Colour = (232, 234, 237)
FAINT_INK: Colour = (145, 153, 164)
GOOD: Colour = (123, 216, 143)
BAD: Colour = (255, 107, 107)
# Of the numbers of one field, in order: x, y and z first.
SERIES: tuple[Colour, ...] = (
    (255, 117, 117),
    (123, 216, 143),
    (108, 182, 255),
    (255, 203, 107),
    (199, 146, 234),
    (137, 221, 255),
    (240, 140, 190),
    (190, 200, 120),
)
# Of the parts of a robot: orange and blue are told apart by nearly everybody.
PARTS: tuple[Colour, ...] = ((255, 170, 64), (84, 190, 255), (199, 146, 234), (123, 216, 143))


@cache
def typeface(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own, which every installation has."""
    return ImageFont.load_default(size)


def fitted(text: str, size: int, width: float) -> str:
    """The text, shortened with an ellipsis to the width in pixels."""
    face = typeface(size)
    text = text[:_MOST_CHARACTERS]
    if face.getlength(text) <= width:
        return text
    fits, too_long = 0, len(text)
    while too_long - fits > 1:
        middle = (fits + too_long) // 2
        if face.getlength(text[:middle] + "…") <= width:
            fits = middle
        else:
            too_long = middle
    return text[:fits].rstrip() + "…"


def write(
    draw: ImageDraw.ImageDraw,
    place: tuple[float, float],
    text: str,
    size: int,
    colour: Colour = INK,
    *,
    anchor: str = "ls",
    width: float | None = None,
) -> None:
    """anchor: Pillow's, "ls" the left end of the baseline. width: what it is shortened to."""
    told = text if width is None else fitted(text, size, width)
    draw.text(place, told, font=typeface(size), fill=colour, anchor=anchor)


def resized(frame: npt.NDArray[np.uint8], size: tuple[int, int]) -> Image.Image:
    """size: width, height. Enlarged smoothly, reduced without moiré."""
    return Image.fromarray(np.ascontiguousarray(frame)).resize(size, Image.Resampling.LANCZOS)


def mixed(colour: Colour, share: float, ground: Colour = PANEL) -> Colour:
    """A colour that lies over a ground: share 1 covers it."""
    red, green, blue = (
        round(share * over + (1 - share) * under)
        for over, under in zip(colour, ground, strict=True)
    )
    return red, green, blue
