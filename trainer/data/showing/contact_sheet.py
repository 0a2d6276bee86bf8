"""One picture of a data set: a section a camera, a row an episode, columns over time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from trainer.data.episode import Episode
from trainer.data.errors import DataError
from trainer.data.showing.canvas import (
    BAD,
    FAINT_INK,
    GOOD,
    GROUND,
    INK,
    PANEL,
    RULE,
    resized,
    typeface,
    write,
)

_MARGIN = 28
_LABEL_WIDTH = 216
_GAP = 4
_BETWEEN = 22
_TITLE_HEIGHT = 52
_SECTION_HEIGHT = 50
_WIDTH = 1900
_LARGEST_TILE = 168
_SMALLEST_TILE = 64
# Width over height that suits a screen.
_ASPECT = 1.4


@dataclass(frozen=True)
class _Layout:
    """across: how many cameras stand side by side. tile_heights: a camera each."""

    across: int
    columns: int
    tile_width: int
    tile_heights: tuple[int, ...]
    num_rows: int

    @property
    def block_width(self) -> int:
        return self.columns * (self.tile_width + _GAP) - _GAP

    @property
    def width(self) -> int:
        blocks = self.across * (self.block_width + _BETWEEN) - _BETWEEN
        return 2 * _MARGIN + _LABEL_WIDTH + blocks

    def row_heights(self, shelf: int) -> int:
        """Of the tiles of all cameras that stand side by side on a shelf."""
        return max(self.tile_heights[shelf * self.across : (shelf + 1) * self.across])

    @property
    def num_shelves(self) -> int:
        return -(-len(self.tile_heights) // self.across)

    def shelf_height(self, shelf: int) -> int:
        return _SECTION_HEIGHT + self.num_rows * (self.row_heights(shelf) + _GAP)

    @property
    def height(self) -> int:
        shelves = sum(self.shelf_height(shelf) for shelf in range(self.num_shelves))
        return 2 * _MARGIN + _TITLE_HEIGHT + shelves


def contact_sheet(
    episodes: Sequence[Episode],
    *,
    title: str,
    columns: int = 8,
    progress: Callable[[range], Any] = iter,
) -> Image.Image:
    """Cameras of all episodes, in the order in which they first appear.

    Where an episode lacks a camera, its row in that section says so. progress wraps the cameras'
    numbers. Raises DataError where no episode has a camera.
    """
    cameras = list(dict.fromkeys(name for one in episodes for name in one.description.cameras))
    if not cameras:
        raise DataError("a contact sheet needs a camera, and no episode has one")
    layout = _best_layout(episodes, cameras, columns)
    sheet = Image.new("RGB", (layout.width, layout.height), GROUND)
    draw = ImageDraw.Draw(sheet)
    write(draw, (_MARGIN, _MARGIN + 20), title, 24, width=layout.width - 2 * _MARGIN)
    top = _MARGIN + _TITLE_HEIGHT
    for index in progress(range(len(cameras))):
        shelf, place = divmod(index, layout.across)
        if place == 0:
            if shelf > 0:
                top += layout.shelf_height(shelf - 1)
            draw.line((_MARGIN, top, sheet.width - _MARGIN, top), fill=RULE)
            for row, episode in enumerate(episodes):
                height = layout.row_heights(shelf)
                y = top + _SECTION_HEIGHT + row * (height + _GAP)
                _label(draw, (_MARGIN, y), episode, height)
        left = _MARGIN + _LABEL_WIDTH + place * (layout.block_width + _BETWEEN)
        _section(sheet, draw, (left, top), episodes, cameras[index], layout, index)
    return sheet


def _best_layout(episodes: Sequence[Episode], cameras: Sequence[str], columns: int) -> _Layout:
    """Cameras side by side until the sheet is about as wide as a screen."""

    def layout(across: int) -> _Layout:
        room = (_WIDTH - 2 * _MARGIN - _LABEL_WIDTH) / across - _BETWEEN
        tile_width = int(np.clip(room / columns - _GAP, _SMALLEST_TILE, _LARGEST_TILE))
        return _Layout(
            across,
            columns,
            tile_width,
            tuple(_tile_height(episodes, camera, tile_width) for camera in cameras),
            len(episodes),
        )

    layouts = [layout(across) for across in range(1, len(cameras) + 1)]
    return min(layouts, key=lambda one: abs(np.log(one.width / one.height / _ASPECT)))


def _tile_height(episodes: Sequence[Episode], camera: str, width: int) -> int:
    view = next(
        one.description.cameras[camera] for one in episodes if camera in one.description.cameras
    )
    return max(round(width * view.height / view.width), 24)


def _section(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    episodes: Sequence[Episode],
    camera: str,
    layout: _Layout,
    index: int,
) -> None:
    """The rows of a camera below their heading."""
    left, top = place
    tile = (layout.tile_width, layout.tile_heights[index])
    views = {
        f"{view.width}x{view.height} {view.encoding}"
        for one in episodes
        if (view := one.description.cameras.get(camera)) is not None
    }
    write(draw, (left, top + 24), camera, 17, width=0.7 * layout.block_width)
    write(
        draw,
        (left + layout.block_width, top + 24),
        ", ".join(sorted(views)),
        13,
        FAINT_INK,
        anchor="rs",
    )
    for column in range(layout.columns):
        part = column / max(layout.columns - 1, 1)
        middle = left + column * (tile[0] + _GAP) + tile[0] / 2
        write(draw, (middle, top + 44), f"{part:.0%}", 11, FAINT_INK, anchor="ms")
    row_height = layout.row_heights(index // layout.across)
    for row, episode in enumerate(episodes):
        y = top + _SECTION_HEIGHT + row * (row_height + _GAP)
        if camera in episode.description.cameras:
            _row(sheet, draw, (left, y), episode, camera, layout.columns, tile)
        else:
            draw.rectangle((left, y, left + layout.block_width, y + tile[1]), fill=PANEL)
            write(draw, (left + 12, y + tile[1] / 2), "no such camera", 14, FAINT_INK, anchor="lm")


def _label(
    draw: ImageDraw.ImageDraw, place: tuple[int, int], episode: Episode, height: int
) -> None:
    description = episode.description
    x, y = place
    outcome, colour = {
        True: ("success", GOOD),
        False: ("failure", BAD),
        None: ("outcome unknown", FAINT_INK),
    }[description.success]
    times_s = episode.times_s()
    duration_s = times_s[-1] - times_s[0]
    lines = [
        # A data set of several tasks names the task first, which the line below tells anyhow.
        (description.episode_id.rpartition("/")[2], 15, INK),
        (f"{description.num_steps} steps, {duration_s:.1f} s, {outcome}", 12, colour),
        *((text, 12, FAINT_INK) for text in filter(None, [description.task])),
        *((text, 12, FAINT_INK) for text in _wrapped(first_instruction(episode) or "")),
    ]
    for line, (text, size, ink) in enumerate(lines):
        baseline = y + 15 + 17 * line
        if baseline <= y + height:
            write(draw, (x, baseline), text, size, ink, width=_LABEL_WIDTH - 14)


def _wrapped(text: str) -> list[str]:
    """Lines that fit beside the tiles."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if typeface(12).getlength(longer) <= _LABEL_WIDTH - 14 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines


def first_instruction(episode: Episode) -> str | None:
    """The one that was given, and else the first phrasing there is."""
    instructions = episode.description.instructions
    for kind in ("original", *instructions):
        for text in instructions.get(kind, ()):
            if text.strip():
                return text.strip()
    return None


def _row(
    sheet: Image.Image,
    draw: ImageDraw.ImageDraw,
    place: tuple[int, int],
    episode: Episode,
    camera: str,
    columns: int,
    tile: tuple[int, int],
) -> None:
    description = episode.description
    steps = np.linspace(0, description.num_steps - 1, columns).round().astype(int)
    times_s = episode.times_s()
    for column, frame in enumerate(episode.frames(camera, steps.tolist())):
        x = place[0] + column * (tile[0] + _GAP)
        sheet.paste(resized(frame, tile), (x, place[1]))
        text = f"{times_s[steps[column]]:.1f} s"
        # Legible on any picture: written in dark first, all around.
        draw.text(
            (x + tile[0] - 5, place[1] + tile[1] - 5),
            text,
            font=typeface(11),
            fill=INK,
            anchor="rs",
            stroke_width=1,
            stroke_fill=GROUND,
        )
