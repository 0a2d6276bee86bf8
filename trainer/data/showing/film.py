"""A film of an episode: cameras side by side, traces of the hands, curves with a cursor."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageDraw

from trainer.data.episode import Episode
from trainer.data.showing.canvas import (
    BAD,
    FAINT_INK,
    GOOD,
    GROUND,
    INK,
    PANEL,
    RULE,
    SERIES,
    fitted,
    mixed,
    resized,
    typeface,
    write,
)
from trainer.data.showing.clock import DEFAULT_RATE_HZ, shown_times_s
from trainer.data.showing.contact_sheet import first_instruction
from trainer.data.showing.plots import PlottedPanel, panels_of
from trainer.data.showing.traces import Traces

_MARGIN = 24
_GAP = 12
_HEAD_HEIGHT = 76
_CAPTION_HEIGHT = 26
_TALLEST_TILE = 460
_PANEL_HEIGHT = 190
_LEGEND_HEIGHT = 30
# Decoded at once: a video is sought once for all of them, and few lie in memory.
_FRAMES_AT_ONCE = 16


class FilmLayout:
    """Where everything stands. Sizes are even: the codec halves the colours' resolution."""

    def __init__(
        self, episode: Episode, cameras: Sequence[str], num_panels: int, width: int
    ) -> None:
        self.width = width - width % 2
        views = [episode.description.cameras[name] for name in cameras]
        across = len(views) if len(views) <= 4 else -(-len(views) // 2)
        self.tiles: list[tuple[int, int, int, int]] = []
        y = _HEAD_HEIGHT + _CAPTION_HEIGHT
        for start in range(0, len(views), max(across, 1)):
            row = views[start : start + across]
            aspects = [view.width / view.height for view in row]
            room = self.width - 2 * _MARGIN - (len(row) - 1) * _GAP
            height = int(min(room / sum(aspects), _TALLEST_TILE))
            widths = [int(height * aspect) for aspect in aspects]
            x = (self.width - sum(widths) - (len(row) - 1) * _GAP) // 2
            for width_ in widths:
                self.tiles.append((x, y, width_, height))
                x += width_ + _GAP
            y += height + _GAP + _CAPTION_HEIGHT
        y -= _CAPTION_HEIGHT
        self.panels: list[tuple[int, int, int, int]] = []
        if num_panels:
            columns = {1: 1, 2: 2, 4: 2}.get(num_panels, 3)
            room = (self.width - 2 * _MARGIN - (columns - 1) * _GAP) // columns
            for index in range(num_panels):
                row, column = divmod(index, columns)
                x = _MARGIN + column * (room + _GAP)
                self.panels.append((x, y + row * (_PANEL_HEIGHT + _GAP), room, _PANEL_HEIGHT))
            y = self.panels[-1][1] + _PANEL_HEIGHT + _GAP
        self.legend_y = y
        height = y + _LEGEND_HEIGHT + _GAP
        self.height = height + height % 2


class Film:
    """fields: what is plotted; None plots the motions of each part. width: in pixels."""

    def __init__(
        self, episode: Episode, *, fields: Sequence[str] | None = None, width: int = 1280
    ) -> None:
        self._episode = episode
        self._times_s = shown_times_s(episode)
        self._cameras = list(episode.description.cameras)
        panels = panels_of(episode, fields)
        self._layout = FilmLayout(episode, self._cameras, len(panels), width)
        self._panels = [
            PlottedPanel(panel, self._times_s, place[2:])
            for panel, place in zip(panels, self._layout.panels, strict=True)
        ]
        self._traces = [Traces(episode, camera) for camera in self._cameras]
        self._ground = self._draw_ground()

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._layout.width, self._layout.height

    @property
    def tiles(self) -> dict[str, tuple[int, int, int, int]]:
        """Where each camera is shown: x, y, width, height."""
        return dict(zip(self._cameras, self._layout.tiles, strict=True))

    @property
    def panels(self) -> list[tuple[int, int, int, int]]:
        """Where the curves are shown: x, y, width, height."""
        return self._layout.panels

    @property
    def rate_hz(self) -> float:
        """Of the film in real time."""
        declared = self._episode.description.rate_hz
        if declared is not None:
            return declared
        gaps_s = np.diff(self._times_s)
        step_s = float(np.median(gaps_s)) if len(gaps_s) else 0.0
        return 1 / step_s if step_s > 0 else DEFAULT_RATE_HZ

    def pictures(self) -> Iterator[Image.Image]:
        """One a control step."""
        num_steps = self._episode.description.num_steps
        for start in range(0, num_steps, _FRAMES_AT_ONCE):
            steps = range(start, min(start + _FRAMES_AT_ONCE, num_steps))
            frames = [self._episode.frames(camera, steps) for camera in self._cameras]
            for index, step in enumerate(steps):
                yield self._picture(step, [of_camera[index] for of_camera in frames])

    def _picture(self, step: int, frames: Sequence[np.ndarray]) -> Image.Image:
        picture = self._ground.copy()
        draw = ImageDraw.Draw(picture)
        for frame, traces, (x, y, width, height) in zip(
            frames, self._traces, self._layout.tiles, strict=True
        ):
            tile = resized(frame, (width, height))
            picture.paste(traces.draw(tile, step), (x, y))
        for panel, (x, y, _, _) in zip(self._panels, self._layout.panels, strict=True):
            picture.paste(panel.at(step), (x, y))
        right = self._layout.width - _MARGIN
        write(draw, (right, 34), f"{self._times_s[step]:.2f} s", 22, anchor="rs")
        last = self._episode.description.num_steps - 1
        write(draw, (right, 56), f"step {step} of {last}", 13, FAINT_INK, anchor="rs")
        part = step / max(last, 1)
        end = _MARGIN + part * (right - _MARGIN)
        draw.line((_MARGIN, _HEAD_HEIGHT - 8, end, _HEAD_HEIGHT - 8), fill=INK, width=2)
        return picture

    def _draw_ground(self) -> Image.Image:
        """What is the same in every picture."""
        layout, description = self._layout, self._episode.description
        ground = Image.new("RGB", (layout.width, layout.height), GROUND)
        draw = ImageDraw.Draw(ground)
        room = layout.width - 2 * _MARGIN - 150
        instruction = first_instruction(self._episode)
        write(
            draw,
            (_MARGIN, 34),
            instruction or "no instruction",
            22,
            INK if instruction else FAINT_INK,
            width=room,
        )
        facts = fitted(
            " · ".join(filter(None, [description.task, description.episode_id])), 13, room
        )
        write(draw, (_MARGIN, 56), facts, 13, FAINT_INK)
        if description.success is not None:
            word, colour = ("success", GOOD) if description.success else ("failure", BAD)
            x = _MARGIN + typeface(13).getlength(facts) + 14
            write(draw, (x, 56), word, 13, colour)
        line = (_MARGIN, _HEAD_HEIGHT - 8, layout.width - _MARGIN, _HEAD_HEIGHT - 8)
        draw.line(line, fill=RULE, width=2)
        for camera, (x, y, width, height) in zip(self._cameras, layout.tiles, strict=True):
            draw.rectangle((x, y, x + width, y + height), fill=PANEL)
            write(draw, (x, y - 8), camera, 13, FAINT_INK, width=width)
        self._draw_legend(draw)
        return ground

    def _draw_legend(self, draw: ImageDraw.ImageDraw) -> None:
        x, y = _MARGIN, self._layout.legend_y + 14
        parts = {part: colour for one in self._traces for part, colour in one.parts.items()}
        for part, colour in parts.items():
            draw.ellipse((x, y - 5, x + 10, y + 5), fill=colour)
            write(draw, (x + 17, y), part, 13, anchor="lm")
            x += 17 + typeface(13).getlength(part) + 22
        for text in ("line: where it was", "dots: where it is sent") if parts else ():
            write(draw, (x, y), text, 13, FAINT_INK, anchor="lm")
            x += typeface(13).getlength(text) + 22
        if self._panels:
            right = self._layout.width - _MARGIN
            for text, strength in (("commanded", 0.5), ("observed", 1.0)):
                write(draw, (right, y), text, 13, FAINT_INK, anchor="rm")
                right -= typeface(13).getlength(text) + 8
                colour = mixed(SERIES[2], strength, GROUND)
                draw.line((right - 22, y, right, y), fill=colour, width=2)
                right -= 22 + 20


def write_film(
    film: Film,
    output: Path,
    *,
    speed: float = 1.0,
    progress: Callable[[Iterator[Image.Image]], Any] = iter,
) -> None:
    """H.264 in an MP4 that browsers play. speed: 2 is twice as fast as it happened.

    Written aside and renamed; nothing stays behind where it is broken off.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    partial = output.with_name(f".{output.stem}.{uuid.uuid4().hex}.partial.mp4")
    rate = Fraction(film.rate_hz * speed).limit_denominator(1000)
    try:
        with av.open(str(partial), "w", options={"movflags": "+faststart"}) as container:
            stream = container.add_stream("libx264", rate=rate)
            stream.width, stream.height = film.size
            stream.pix_fmt = "yuv420p"
            stream.options = {"crf": "18", "preset": "medium"}
            for picture in progress(film.pictures()):
                container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode(None))
        partial.replace(output)
    finally:
        partial.unlink(missing_ok=True)
