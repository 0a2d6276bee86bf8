"""A drawing as an image, two dots a pixel. Pillow draws without smoothing: shapes are drawn larger
and made smaller."""

from __future__ import annotations

import io
from collections.abc import Sequence
from itertools import pairwise
from math import hypot

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageColor, ImageDraw

from trainer.data.showing.canvas import Colour, mixed, typeface, write
from trainer.plotting.drawing import Area, Dot, Drawing, Line, Point, Text
from trainer.plotting.palette import Scheme, colours

_DOTS = 2
_SUPERSAMPLING = 2
_SCALE = _DOTS * _SUPERSAMPLING
_DASH = 4.0 * _SCALE
# Of what is drawn large at once: bounds memory for tall pictures.
_BAND = 400
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}


def png_file(drawing: Drawing, scheme: Scheme) -> bytes:
    """The file's bytes."""
    file = io.BytesIO()
    _image(drawing, scheme).save(file, "PNG", dpi=(96 * _DOTS, 96 * _DOTS))
    return file.getvalue()


def pixels(drawing: Drawing, scheme: Scheme) -> npt.NDArray[np.uint8]:
    """(H, W, 3)."""
    return np.asarray(_image(drawing, scheme))


def text_width(text: str, size: float) -> float:
    """In pixels of a drawing."""
    return typeface(round(_DOTS * size)).getlength(text) / _DOTS


def _image(drawing: Drawing, scheme: Scheme) -> Image.Image:
    palette = {role: _rgb(colour) for role, colour in colours(scheme).items()}
    width, height = round(drawing.width), round(drawing.height)
    image = Image.new("RGB", (_DOTS * width, _DOTS * height), palette["paper"])
    for top in range(0, height, _BAND):
        tall = min(_BAND, height - top)
        band = Image.new("RGB", (_SCALE * width, _SCALE * tall), palette["paper"])
        _draw_shapes(band, drawing, palette, top, tall)
        image.paste(band.reduce(_SUPERSAMPLING), (0, _DOTS * top))
    draw = ImageDraw.Draw(image)
    for mark in drawing.marks:
        if isinstance(mark, Text):
            write(
                draw,
                (_DOTS * mark.x, _DOTS * mark.y),
                mark.text,
                round(_DOTS * mark.size),
                palette[mark.colour],
                anchor=_ANCHORS[mark.anchor],
                width=None if mark.room is None else _DOTS * mark.room,
            )
    return image


def _rgb(colour: str) -> Colour:
    red, green, blue = ImageColor.getrgb(colour)[:3]
    return red, green, blue


def _draw_shapes(
    band: Image.Image, drawing: Drawing, palette: dict[str, Colour], top: int, height: int
) -> None:
    draw = ImageDraw.Draw(band, "RGBA")
    for mark in drawing.marks:
        match mark:
            case Line() | Area():
                ys = [y for _, y in mark.points]
                if max(ys) < top - 4 or min(ys) > top + height + 4:
                    continue
                points = [(_SCALE * x, _SCALE * (y - top)) for x, y in mark.points]
                if isinstance(mark, Area):
                    ink = (*palette[mark.colour], round(255 * mark.opacity))
                    draw.polygon(points, fill=ink)
                    continue
                # Translucent pieces would show where they meet; so they are mixed beforehand.
                ink = mixed(palette[mark.colour], mark.opacity, palette["paper"])
                thick = max(1, round(_SCALE * mark.width))
                for part in _dashes(points) if mark.dashed else [points]:
                    draw.line(part, fill=ink, width=thick, joint="curve")
            case Dot():
                x, y, r = _SCALE * mark.x, _SCALE * (mark.y - top), _SCALE * mark.radius
                draw.ellipse((x - r, y - r, x + r, y + r), fill=palette[mark.colour])
            case Text():
                pass


def _dashes(points: Sequence[Point]) -> list[list[Point]]:
    """The pieces of a route that a dashed line shows."""
    pieces: list[list[Point]] = []
    piece, shown, left = [points[0]], True, _DASH
    for (x0, y0), (x1, y1) in pairwise(points):
        distance, gone = hypot(x1 - x0, y1 - y0), 0.0
        while distance - gone > left:
            gone += left
            at = (x0 + (x1 - x0) * gone / distance, y0 + (y1 - y0) * gone / distance)
            if shown:
                pieces.append([*piece, at])
            piece, shown, left = [at], not shown, _DASH
        left -= distance - gone
        piece.append((x1, y1))
    return [*pieces, piece] if shown and len(piece) > 1 else pieces
