"""A drawing as an element of a page."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from trainer.plotting.drawing import Area, Dot, Drawing, Line, Mark, Point, Text


def svg_element(drawing: Drawing, label: str) -> str:
    """Its colours are the page's variables; groups name their run or policy in `data-series`.

    label: what it is to those who hear the page.
    """
    parts = []
    for series, marks in groupby(drawing.marks, key=lambda mark: mark.series):
        content = "".join(map(_element, marks))
        parts.append(content if series is None else f'<g data-series="{series}">{content}</g>')
    return (
        f'<svg viewBox="0 0 {_number(drawing.width)} {_number(drawing.height)}" role="img" '
        f'aria-label="{xml_text(label)}" stroke-linejoin="round" stroke-linecap="round">'
        f"{''.join(parts)}</svg>"
    )


def xml_text(text: str) -> str:
    """Escaped; XML 1.0 has no control characters, not even as references."""
    shown = "".join(c if c >= " " or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(shown.encode("utf-8", "replace").decode("utf-8"))


def _element(mark: Mark) -> str:
    match mark:
        case Line():
            dashes = ' stroke-dasharray="4 4"' if mark.dashed else ""
            width = "" if mark.width == 1 else f' stroke-width="{_number(mark.width)}"'
            return (
                f'<path d="{_route(mark.points)}" fill="none" stroke="var(--{mark.colour})"'
                f"{width}{dashes}{_opacity(mark.opacity)}/>"
            )
        case Area():
            return (
                f'<path d="{_route(mark.points)}z" fill="var(--{mark.colour})"'
                f"{_opacity(mark.opacity)}/>"
            )
        case Dot():
            return (
                f'<circle cx="{_number(mark.x)}" cy="{_number(mark.y)}" r="{_number(mark.radius)}" '
                f'fill="var(--{mark.colour})"/>'
            )
        case Text():
            anchor = "" if mark.anchor == "start" else f' text-anchor="{mark.anchor}"'
            return (
                f'<text x="{_number(mark.x)}" y="{_number(mark.y)}" '
                f'font-size="{_number(mark.size)}" fill="var(--{mark.colour})"{anchor}>'
                f"{xml_text(mark.text)}</text>"
            )


def _route(points: Sequence[Point]) -> str:
    # Steps from point to point, in tenths of a pixel, are half as long as places.
    tenths = [(round(10 * x), round(10 * y)) for x, y in points]
    (x, y), *others = tenths
    steps = [f"M{x / 10:g} {y / 10:g}"]
    for next_x, next_y in others:
        steps.append(f"l{(next_x - x) / 10:g} {(next_y - y) / 10:g}")
        x, y = next_x, next_y
    return "".join(steps)


def _number(value: float) -> str:
    return f"{round(value, 1):g}"


def _opacity(opacity: float) -> str:
    return "" if opacity == 1 else f' opacity="{opacity:.2g}"'
