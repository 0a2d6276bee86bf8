"""Where the hands were and are sent, drawn into a camera's picture."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from policy_interface.types import FloatArray
from trainer.data.episode import Episode
from trainer.data.field_geometry import positions_of
from trainer.data.projection import project, visible_fields
from trainer.data.showing.canvas import GROUND, INK, PARTS, Colour
from trainer.data.showing.clock import shown_times_s

_PAST_S = 2.5
_FUTURE_S = 1.6
_SMOOTH = 2


@dataclass(frozen=True, kw_only=True, eq=False)
class _Track:
    """Of one part: positions (T, 3) in the camera's frame."""

    part: str
    colour: Colour
    observed: FloatArray | None
    commanded: FloatArray | None


class Traces:
    """For one camera of an episode; draws nothing where the camera does not know where it is."""

    def __init__(self, episode: Episode, camera: str) -> None:
        description = episode.description
        self._view = description.cameras[camera]
        names = visible_fields(description, camera)
        parts = list(dict.fromkeys(description.fields[name].part for name in names))
        self._tracks: list[_Track] = []
        for index, part in enumerate(parts):
            by_role: dict[str, FloatArray] = {}
            for name in names:
                field = description.fields[name]
                positions = positions_of(field, episode.read(name))
                if field.part == part and positions is not None:
                    by_role.setdefault(field.role, positions)
            self._tracks.append(
                _Track(
                    part=part or "hand",
                    colour=PARTS[index % len(PARTS)],
                    observed=by_role.get("observed"),
                    commanded=by_role.get("action"),
                )
            )
        self._times_s = shown_times_s(episode)
        if self._tracks:
            self._intrinsics = episode.intrinsics(camera)
            self._X_FC = episode.extrinsics(camera)

    @property
    def parts(self) -> dict[str, Colour]:
        """Which part has which colour; empty where nothing is drawn."""
        return {track.part: track.colour for track in self._tracks}

    def draw(self, picture: Image.Image, step: int) -> Image.Image:
        """The picture with the traces over it: solid where a hand was, dots where it is sent."""
        if not self._tracks:
            return picture
        size = (picture.width * _SMOOTH, picture.height * _SMOOTH)
        layer = Image.new("RGBA", size, (0, 0, 0, 0))
        draw = ImageDraw.Draw(layer)
        scale = np.array(size) / (self._view.width, self._view.height)
        now_s = self._times_s[step]
        past = np.flatnonzero((self._times_s <= now_s) & (self._times_s >= now_s - _PAST_S))
        future = np.flatnonzero((self._times_s >= now_s) & (self._times_s <= now_s + _FUTURE_S))
        for track in self._tracks:
            if track.commanded is not None:
                self._draw_future(draw, self._pixels(track.commanded[future], step, scale), track)
            if track.observed is not None:
                self._draw_past(draw, self._pixels(track.observed[past], step, scale), track)
        smooth = layer.resize(picture.size, Image.Resampling.LANCZOS)
        return Image.alpha_composite(picture.convert("RGBA"), smooth).convert("RGB")

    def _pixels(self, positions: FloatArray, step: int, scale: FloatArray) -> FloatArray:
        return (project(positions, self._intrinsics[step], self._X_FC[step]) + 0.5) * scale

    def _draw_past(self, draw: ImageDraw.ImageDraw, pixels: FloatArray, track: _Track) -> None:
        for index, (start, stop) in enumerate(itertools.pairwise(pixels)):
            if _drawable(start) and _drawable(stop):
                # Older is fainter.
                alpha = round(255 * (index + 1) / len(pixels))
                ends = (*start, *stop)
                draw.line(ends, fill=(*GROUND, alpha // 2), width=5 * _SMOOTH)
                draw.line(ends, fill=(*track.colour, alpha), width=3 * _SMOOTH)
        if len(pixels) and _drawable(pixels[-1]):
            _disc(draw, pixels[-1], 5.5, (*GROUND, 200))
            _disc(draw, pixels[-1], 4.5, (*track.colour, 255))
            _disc(draw, pixels[-1], 1.8, (*INK, 255))

    def _draw_future(self, draw: ImageDraw.ImageDraw, pixels: FloatArray, track: _Track) -> None:
        for index, pixel in enumerate(pixels):
            if _drawable(pixel):
                alpha = round(255 - 150 * index / max(len(pixels) - 1, 1))
                _disc(draw, pixel, 2.8, (*GROUND, alpha // 2))
                _disc(draw, pixel, 2.0, (*track.colour, alpha))


def _disc(
    draw: ImageDraw.ImageDraw, centre: FloatArray, radius: float, fill: tuple[int, int, int, int]
) -> None:
    x, y = centre
    reach = radius * _SMOOTH
    draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)


def _drawable(pixel: FloatArray) -> bool:
    """In front of the camera, and near enough for Pillow to draw towards."""
    return bool(np.isfinite(pixel).all() and np.abs(pixel).max() < 1e5)
