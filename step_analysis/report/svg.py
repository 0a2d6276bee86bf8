"""A drawing as SVG: as a file with fixed colours, or as an element of the page."""

from collections.abc import Callable, Iterable, Sequence
from html import escape
from itertools import groupby

from step_analysis.report.drawing import Box, Dot, Drawing, Mark, Path, Point, Text, Zone
from step_analysis.report.palette import Scheme, colours

_FAMILY = "Inter, 'Inter Variable', system-ui, 'Helvetica Neue', Arial, sans-serif"
_WEIGHTS = {"regular": "400", "semibold": "600"}
_DASHES = "4 4"


def svg_file(drawing: Drawing, scheme: Scheme, description: str) -> str:
    """A file of its own, colours fixed; zones say nothing here, only on the page."""
    palette = colours(scheme)
    shown = (mark for mark in drawing.marks if not isinstance(mark, Zone))
    body = "\n".join(_elements(shown, palette.__getitem__))
    size = f'width="{_number(drawing.width)}" height="{_number(drawing.height)}"'
    return (
        f'<?xml version="1.0" encoding="utf-8"?>\n<svg xmlns="http://www.w3.org/2000/svg" {size} '
        f'viewBox="0 0 {_number(drawing.width)} {_number(drawing.height)}" '
        f'font-family="{_FAMILY}" stroke-linejoin="round">\n<title>{_text(description)}</title>\n'
        f'<rect width="100%" height="100%" fill="{palette["paper"]}"/>\n{body}\n</svg>\n'
    )


def svg_element(drawing: Drawing, tip_number: Callable[[str], int], kind: str) -> str:
    """An element of the page: colours are its variables, zones carry the number of their tip.

    Groups name the indices of the policies that their marks are about in `data-p`.
    """
    parts = []
    for policies, marks in groupby(drawing.marks, key=lambda mark: mark.policies):
        content = "".join(_elements(marks, "var(--{})".format, tip_number))
        about = " ".join(map(str, policies))
        parts.append(f'<g data-p="{about}">{content}</g>' if policies else content)
    width, height = _number(drawing.width), _number(drawing.height)
    return (
        f'<svg class="{kind}" viewBox="0 0 {width} {height}" style="max-width:{width}px" '
        f'stroke-linejoin="round" aria-hidden="true">{"".join(parts)}</svg>'
    )


def _elements(
    marks: Iterable[Mark],
    colour: Callable[[str], str],
    tip_number: Callable[[str], int] | None = None,
) -> Iterable[str]:
    """One element a mark; with `tip_number` they say their tips."""
    for mark in marks:
        match mark:
            case Zone() if tip_number is not None:
                yield f'<path d="{_outline(mark)}" data-t="{tip_number(mark.tip)}"/>'
            case Path():
                yield _path(mark, colour)
            case Box():
                place = f'<path d="{_outline(mark)}"'
                if mark.radius:
                    place = (
                        f'<rect x="{_number(mark.x)}" y="{_number(mark.y)}" '
                        f'width="{_number(mark.width)}" height="{_number(mark.height)}" '
                        f'rx="{_number(mark.radius)}"'
                    )
                tip = ""
                if mark.tip is not None and tip_number is not None:
                    tip = f' data-t="{tip_number(mark.tip)}"'
                yield f'{place} fill="{colour(mark.fill)}"{_opacity(mark.opacity)}{tip}/>'
            case Dot():
                edge = ""
                if mark.stroke is not None:
                    edge = (
                        f' stroke="{colour(mark.stroke)}" '
                        f'stroke-width="{_number(mark.stroke_width)}"'
                    )
                yield (
                    f'<circle cx="{_number(mark.x)}" cy="{_number(mark.y)}" '
                    f'r="{_number(mark.radius)}" fill="{colour(mark.fill)}"{edge}/>'
                )
            case Text():
                yield _words(mark, colour)


def _path(mark: Path, colour: Callable[[str], str]) -> str:
    fill = "none" if mark.fill is None else colour(mark.fill)
    parts = [f'<path d="{_route(mark.points, closed=mark.closed)}" fill="{fill}"']
    if mark.stroke is not None:
        parts.append(f' stroke="{colour(mark.stroke)}"')
        if mark.width != 1.0:
            parts.append(f' stroke-width="{_number(mark.width)}"')
        if mark.dashed:
            parts.append(f' stroke-dasharray="{_DASHES}"')
        if mark.round_ends:
            parts.append(' stroke-linecap="round"')
    return "".join([*parts, _opacity(mark.opacity), "/>"])


def _words(mark: Text, colour: Callable[[str], str]) -> str:
    parts = [f'<text x="{_number(mark.x)}" y="{_number(mark.y)}" font-size="{_number(mark.size)}"']
    parts.append(f' fill="{colour(mark.colour)}"')
    if mark.anchor != "start":
        parts.append(f' text-anchor="{mark.anchor}"')
    if mark.weight != "regular":
        parts.append(f' font-weight="{_WEIGHTS[mark.weight]}"')
    if mark.turn_degrees:
        turn = f"{_number(-mark.turn_degrees)} {_number(mark.x)} {_number(mark.y)}"
        parts.append(f' transform="rotate({turn})"')
    return "".join([*parts, f">{_text(mark.text)}</text>"])


def _route(points: Sequence[Point], *, closed: bool) -> str:
    # Relative steps in tenths of a pixel: half as long as absolute places.
    rounded = [(round(10.0 * x), round(10.0 * y)) for x, y in points]
    x, y = rounded[0]
    steps = [f"M{_tenths(x)} {_tenths(y)}l"]
    for next_x, next_y in rounded[1:]:
        across, down = _tenths(next_x - x), _tenths(next_y - y)
        steps.append(f"{across}{down}" if down.startswith("-") else f"{across} {down}")
        steps.append(" ")
        x, y = next_x, next_y
    return "".join(steps).rstrip() + ("z" if closed else "")


def _outline(box: Box | Zone) -> str:
    # Half as long as a rectangle's four attributes.
    width, height = _number(box.width), _number(box.height)
    return f"M{_number(box.x)} {_number(box.y)}h{width}v{height}h-{width}z"


def _tenths(value: int) -> str:
    whole, tenth = divmod(abs(value), 10)
    sign = "-" if value < 0 else ""
    return f"{sign}{whole}.{tenth}" if tenth else f"{sign}{whole}"


def _number(value: float) -> str:
    return _tenths(round(10.0 * value))


def _opacity(opacity: float) -> str:
    return "" if opacity == 1.0 else f' opacity="{opacity:.2g}"'


def _text(text: str) -> str:
    # XML 1.0 has no control characters, not even as references.
    shown = "".join(c if c >= " " or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text)
    return escape(shown.encode("utf-8", "replace").decode("utf-8"))
