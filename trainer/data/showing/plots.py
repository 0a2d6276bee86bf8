"""Curves of fields over an episode, with a cursor that moves.

A panel is drawn once, larger than it is shown, so that its lines are smooth; each frame of a film
adds the cursor alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from policy_interface.types import FloatArray
from trainer.data.episode import Episode, EpisodeDescription
from trainer.data.errors import DataError
from trainer.data.field_geometry import has_position, positions_of
from trainer.data.showing.canvas import (
    FAINT_INK,
    INK,
    PANEL,
    RULE,
    SERIES,
    Colour,
    fitted,
    mixed,
    typeface,
    write,
)

_SMOOTH = 3
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 14, 34, 26
_MOST_CURVES = 7
_KINDS_BY_INTEREST = ("pose", "translation", "gripper", "joint_position", "vector")


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """values: (T,), nan where there is none. dotted: a command beside what was observed."""

    name: str
    values: FloatArray
    colour: Colour
    dotted: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """What is plotted into one frame of axes."""

    title: str
    unit: str
    curves: tuple[Curve, ...]


def panels_of(episode: Episode, fields: Sequence[str] | None, most: int = 6) -> list[Panel]:
    """fields: those to plot, a panel each. None: the motions of each part, commands beside them.

    Raises DataError for a field that is not there or holds no numbers.
    """
    description = episode.description
    if fields is not None:
        return [_panel(episode, [name], name) for name in fields]
    panels = []
    for names in _groups(description)[:most]:
        first = description.fields[names[0]]
        # A part says more than a name; without one, what tells fields apart is the name.
        title = f"{first.part} {_word(first.kind)}" if first.part else names[0]
        panels.append(_panel(episode, names, title))
    return panels


def _groups(description: EpisodeDescription) -> list[list[str]]:
    """Fields of one kind, part and shape: what was observed, then what was commanded."""
    groups: dict[tuple[object, ...], dict[str, str]] = {}
    for kind in _KINDS_BY_INTEREST:
        for name, field in description.fields.items():
            if field.kind == kind and field.role in ("observed", "action"):
                roles = groups.setdefault((kind, field.part, field.shape, field.names), {})
                roles.setdefault(field.role, name)
    return [
        [roles[role] for role in ("observed", "action") if role in roles]
        for roles in groups.values()
    ]


def _panel(episode: Episode, names: Sequence[str], title: str) -> Panel:
    curves: list[Curve] = []
    for index, name in enumerate(names):
        values = episode.read(name)
        field = episode.description.fields[name]
        if values.dtype.kind not in "fiub":
            raise DataError(
                f"expected numbers to plot, got {values.dtype}",
                episode=episode.description.episode_id,
                field=name,
            )
        if has_position(field):
            positions = positions_of(field, values)
            assert positions is not None
            columns, labels = positions, ("x", "y", "z")
        else:
            columns = values.reshape(len(values), -1).astype(np.float64)
            labels = field.names or tuple(str(number) for number in range(columns.shape[1]))
            labels = ("",) if columns.shape[1] == 1 and not field.names else labels
        for number in range(min(columns.shape[1], _MOST_CURVES)):
            curves.append(
                Curve(
                    name=labels[number],
                    values=columns[:, number],
                    colour=SERIES[number % len(SERIES)],
                    dotted=index > 0,
                )
            )
    first = episode.description.fields[names[0]]
    return Panel(title=title, unit=first.unit or "", curves=tuple(curves))


def _word(kind: str) -> str:
    return {"pose": "position", "translation": "position"}.get(kind, kind.replace("_", " "))


class PlottedPanel:
    """A panel drawn into a size in pixels, width and height."""

    def __init__(self, panel: Panel, times_s: FloatArray, size: tuple[int, int]) -> None:
        self._panel, self._times_s, self._size = panel, times_s, size
        shown = [curve.values[np.isfinite(curve.values)] for curve in panel.curves]
        numbers = np.concatenate(shown) if shown else np.zeros(0)
        low, high = (numbers.min(), numbers.max()) if len(numbers) else (0.0, 1.0)
        # A flat curve runs through the middle of a band, not along its edge.
        margin = max(0.06 * (high - low), 0.02 * max(abs(low), abs(high), 1e-3))
        self._low, self._high = float(low - margin), float(high + margin)
        self._picture = self._draw()

    def at(self, step: int) -> Image.Image:
        """With the cursor at a control step."""
        picture = self._picture.copy()
        draw = ImageDraw.Draw(picture)
        x = self._x(self._times_s[step])
        draw.line((x, _TOP, x, self._size[1] - _BOTTOM), fill=mixed(INK, 0.75), width=1)
        for curve in self._panel.curves:
            value = curve.values[step]
            if np.isfinite(value) and not curve.dotted:
                y = self._y(value)
                draw.ellipse((x - 3, y - 3, x + 3, y + 3), fill=curve.colour, outline=PANEL)
        return picture

    def _x(self, time_s: float) -> float:
        span = max(float(self._times_s[-1] - self._times_s[0]), 1e-9)
        part = (time_s - self._times_s[0]) / span
        return _LEFT + part * (self._size[0] - _LEFT - _RIGHT)

    def _y(self, value: float) -> float:
        part = (value - self._low) / (self._high - self._low)
        return self._size[1] - _BOTTOM - part * (self._size[1] - _TOP - _BOTTOM)

    def _draw(self) -> Image.Image:
        width, height = self._size
        large = Image.new("RGB", (width * _SMOOTH, height * _SMOOTH), PANEL)
        lines = ImageDraw.Draw(large)
        for tick in _ticks(self._low, self._high):
            y = self._y(tick) * _SMOOTH
            ends = (_LEFT * _SMOOTH, y, (width - _RIGHT) * _SMOOTH, y)
            lines.line(ends, fill=mixed(RULE, 0.7), width=_SMOOTH)
        # Commands below, so that what was observed stays legible.
        for curve in sorted(self._panel.curves, key=lambda one: not one.dotted):
            self._draw_curve(lines, curve)
        picture = large.resize((width, height), Image.Resampling.LANCZOS)
        self._draw_text(ImageDraw.Draw(picture))
        return picture

    def _draw_curve(self, lines: ImageDraw.ImageDraw, curve: Curve) -> None:
        points = [
            (self._x(time) * _SMOOTH, self._y(value) * _SMOOTH) if np.isfinite(value) else None
            for time, value in zip(self._times_s, curve.values, strict=True)
        ]
        colour = mixed(curve.colour, 0.5) if curve.dotted else curve.colour
        stroke = 1.2 if curve.dotted else 2.0
        run: list[tuple[float, float]] = []
        for point in [*points, None]:
            if point is not None:
                run.append(point)
                continue
            if len(run) > 1:
                lines.line(run, fill=colour, width=round(stroke * _SMOOTH), joint="curve")
            run = []

    def _draw_text(self, draw: ImageDraw.ImageDraw) -> None:
        width, height = self._size
        names = list(
            {curve.name: curve.colour for curve in self._panel.curves if curve.name}.items()
        )
        x = float(width - _RIGHT)
        for name, colour in reversed(names):
            write(draw, (x, 21), name, 13, colour, anchor="rs")
            x -= typeface(13).getlength(name) + 12
        unit = f" ({self._panel.unit})" if self._panel.unit else ""
        room = x - _LEFT - 4
        title = fitted(self._panel.title, 14, room - typeface(14).getlength(unit))
        write(draw, (14, 21), title, 14)
        write(draw, (14 + typeface(14).getlength(title), 21), unit, 14, FAINT_INK)
        for tick in _ticks(self._low, self._high):
            write(draw, (_LEFT - 8, self._y(tick)), f"{tick:.4g}", 11, FAINT_INK, anchor="rm")
        for time in _ticks(float(self._times_s[0]), float(self._times_s[-1]), 6):
            place = (self._x(time), height - 9)
            write(draw, place, f"{time:g} s", 11, FAINT_INK, anchor="ms")


def _ticks(low: float, high: float, most: int = 4) -> list[float]:
    """Round numbers within the range: 1, 2 or 5 times a power of ten apart."""
    if not high > low:
        return [low]
    rough = (high - low) / most
    power = 10.0 ** np.floor(np.log10(rough))
    step = next(factor * power for factor in (1, 2, 5, 10) if factor * power >= rough)
    first = int(np.ceil(low / step - 1e-9))
    last = int(np.floor(high / step + 1e-9))
    return [round(number * step, 12) for number in range(first, last + 1)]
