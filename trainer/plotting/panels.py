"""Small plots of one look: a title with its unit, a few lines of the grid, curves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from policy_interface.types import FloatArray
from trainer.plotting.drawing import Area, Dot, Drawing, Line, Point, Text
from trainer.plotting.palette import series_role
from trainer.plotting.scales import Scale, in_short

PANEL_WIDTH, PANEL_HEIGHT = 330.0, 208.0
_LEFT, _RIGHT, _TOP, _BOTTOM = 46.0, 8.0, 30.0, 22.0
_TITLE_SIZE, _TICK_SIZE = 12.5, 10.0
# More points than an axis has pixels make a picture no clearer.
_MOST_POINTS = 480


@dataclass(frozen=True, kw_only=True, eq=False)
class Curve:
    """x, y: (N,), y not a number where there is none.

    series: the number of its run or policy; None for what all are compared with.
    dots: at each point. band: the lowest and highest, (N,) each, shaded.
    """

    x: FloatArray
    y: FloatArray
    series: int | None
    width: float = 1.8
    opacity: float = 1.0
    dots: bool = False
    dashed: bool = False
    band: tuple[FloatArray, FloatArray] | None = None


@dataclass(frozen=True, kw_only=True, eq=False)
class Panel:
    """x_scale: None fits it to the curves. marked_x: where a dashed line stands.

    shares_y_with: numbers that the axis reaches besides those of the curves.
    """

    title: str
    unit: str
    curves: Sequence[Curve]
    x_scale: Scale | None = None
    x_unit: str = ""
    may_be_logarithmic: bool = False
    marked_x: float | None = None
    shares_y_with: FloatArray = field(default_factory=lambda: np.zeros(0))


@dataclass(frozen=True, kw_only=True)
class DrawnPanel:
    """left, right, top, bottom: of the frame within the drawing, in pixels."""

    drawing: Drawing
    x: Scale
    y: Scale
    left: float = _LEFT
    right: float = PANEL_WIDTH - _RIGHT
    top: float = _TOP
    bottom: float = PANEL_HEIGHT - _BOTTOM


def draw_panel(panel: Panel) -> DrawnPanel:
    x_scale = panel.x_scale or _fitted_x(panel)
    numbers = [panel.shares_y_with]
    for curve in panel.curves:
        numbers += [curve.y, *(curve.band or ())]
    y_scale = Scale.over(np.concatenate(numbers), may_be_logarithmic=panel.may_be_logarithmic)
    drawn = DrawnPanel(
        drawing=Drawing(width=PANEL_WIDTH, height=PANEL_HEIGHT), x=x_scale, y=y_scale
    )
    _draw_axes(panel, drawn)
    # What is faint lies beneath what is not; the rest stays in its order.
    for curve in sorted(panel.curves, key=lambda one: one.opacity):
        _draw_curve(curve, drawn)
    return drawn


def _fitted_x(panel: Panel) -> Scale:
    numbers = [curve.x for curve in panel.curves if len(curve.x)]
    if not numbers:
        return Scale(low=0.0, high=1.0)
    low, high = (float(reach(np.concatenate(numbers))) for reach in (np.min, np.max))
    return Scale(low=low, high=high if high > low else low + 1.0)


def _draw_axes(panel: Panel, drawn: DrawnPanel) -> None:
    drawing, x, y = drawn.drawing, drawn.x, drawn.y
    unit = f" ({panel.unit})" if panel.unit else ""
    note = "log" if y.is_logarithmic else ""
    drawing.add(
        Text(
            x=0,
            y=14,
            text=panel.title + unit,
            size=_TITLE_SIZE,
            room=drawn.right - 30,
        )
    )
    if note:
        drawing.add(
            Text(x=drawn.right, y=14, text=note, size=_TICK_SIZE, colour="muted", anchor="end")
        )
    for tick in y.ticks():
        place = _y(drawn, float(y.parts(tick)))
        drawing.add(Line(points=[(drawn.left, place), (drawn.right, place)], colour="line"))
        drawing.add(
            Text(
                x=drawn.left - 6,
                y=place + 3.5,
                text=in_short(tick),
                size=_TICK_SIZE,
                colour="muted",
                anchor="end",
            )
        )
    for tick in x.ticks(5):
        place = _x(drawn, float(x.parts(tick)))
        # The last number may stand at the very edge.
        anchor = "end" if place > drawn.right - 10 else "middle"
        drawing.add(
            Text(
                x=place,
                y=drawn.bottom + 15,
                text=in_short(tick) + panel.x_unit,
                size=_TICK_SIZE,
                colour="muted",
                anchor=anchor,
            )
        )
    if panel.marked_x is not None and x.low < panel.marked_x < x.high:
        place = _x(drawn, float(x.parts(panel.marked_x)))
        drawing.add(
            Line(points=[(place, drawn.top), (place, drawn.bottom)], colour="muted", dashed=True)
        )


def _draw_curve(curve: Curve, drawn: DrawnPanel) -> None:
    colour = "ink" if curve.series is None else series_role(curve.series)
    if curve.band is not None:
        low, high = (_points(drawn, curve.x, edge) for edge in curve.band)
        for below, above in zip(low, high, strict=True):
            drawn.drawing.add(
                Area(
                    points=[*below, *reversed(above)],
                    colour=colour,
                    opacity=0.16,
                    series=curve.series,
                )
            )
    x, y = thinned(curve.x, curve.y)
    for points in _points(drawn, x, y):
        if len(points) == 1 or curve.dots:
            # A point alone makes no line.
            for px, py in points:
                drawn.drawing.add(Dot(x=px, y=py, radius=2.4, colour=colour, series=curve.series))
        if len(points) > 1:
            drawn.drawing.add(
                Line(
                    points=points,
                    colour=colour,
                    width=curve.width,
                    opacity=curve.opacity,
                    dashed=curve.dashed,
                    series=curve.series,
                )
            )


def thinned(x: FloatArray, y: FloatArray) -> tuple[FloatArray, FloatArray]:
    """At most about as many points as an axis shows; the lowest and highest of each column stay."""
    if len(x) <= _MOST_POINTS:
        return x, y
    columns = np.linspace(0, len(x), _MOST_POINTS // 2 + 1).round().astype(int)
    kept: list[int] = []
    for start, stop in pairwise(columns.tolist()):
        part = y[start:stop]
        if np.isfinite(part).any():
            ends = {start + int(np.nanargmin(part)), start + int(np.nanargmax(part))}
            kept += sorted(ends)
        else:
            kept.append(start)
    return x[kept], y[kept]


def _points(drawn: DrawnPanel, x: FloatArray, y: FloatArray) -> list[list[Point]]:
    """In pixels; a list each for pieces without a gap."""
    xs = drawn.left + drawn.x.parts(x) * (drawn.right - drawn.left)
    with np.errstate(invalid="ignore", divide="ignore"):
        ys = drawn.bottom - drawn.y.parts(y) * (drawn.bottom - drawn.top)
    pieces: list[list[Point]] = [[]]
    for px, py in zip(xs.tolist(), ys.tolist(), strict=True):
        if np.isfinite(py):
            pieces[-1].append((px, py))
        elif pieces[-1]:
            pieces.append([])
    return [piece for piece in pieces if piece]


def _x(drawn: DrawnPanel, part: float) -> float:
    return drawn.left + part * (drawn.right - drawn.left)


def _y(drawn: DrawnPanel, part: float) -> float:
    return drawn.bottom - part * (drawn.bottom - drawn.top)
