"""Panels and tables under headings: what a PNG and a page are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainer.plotting.drawing import Drawing, Line, Text
from trainer.plotting.palette import series_role
from trainer.plotting.panels import PANEL_HEIGHT, PANEL_WIDTH, Panel, draw_panel
from trainer.plotting.png import text_width

_MARGIN, _GAP, _ROW_GAP = 34.0, 30.0, 18.0
_TITLE_SIZE, _HEADING_SIZE, _LEGEND_SIZE, _NOTE_SIZE = 20.0, 15.0, 12.5, 11.0
_MOST_LISTED = 3
_SWATCH, _WIDEST_NAME = 20.0, 320.0


@dataclass(frozen=True, kw_only=True)
class Section:
    """Panels that belong together. lead: a sentence about them."""

    heading: str
    panels: Sequence[Panel]
    lead: str = ""


@dataclass(frozen=True, kw_only=True)
class Table:
    """rows: cells of text, the first one the row's name.

    series: the number of each row's run or policy, where rows are about these. is_minor: to be
    opened by those who want it.
    """

    heading: str
    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    lead: str = ""
    series: Sequence[int] = ()
    is_minor: bool = False


@dataclass(frozen=True, kw_only=True)
class Gallery:
    """names: of the runs or policies, by number. unnamed: what ink, and no colour, stands for.

    columns: panels side by side in the PNG.
    """

    eyebrow: str
    headline: str
    lead: str
    names: Sequence[str]
    sections: Sequence[Section]
    tables: Sequence[Table] = field(default=())
    unnamed: str = ""
    columns: int = 3


def listed(names: Sequence[str]) -> str:
    """`a`, `a and b`, `a, b, c and 4 more`."""
    if len(names) > _MOST_LISTED + 1:
        return f"{', '.join(names[:_MOST_LISTED])} and {len(names) - _MOST_LISTED} more"
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))


def sheet(gallery: Gallery) -> Drawing:
    """All panels in one drawing, with a legend."""
    width = gallery.columns * (PANEL_WIDTH + _GAP) - _GAP
    drawing = Drawing(width=2 * _MARGIN + width, height=0.0)
    y = _MARGIN + 14
    drawing.add(Text(x=_MARGIN, y=y, text=gallery.headline, size=_TITLE_SIZE, room=width))
    y = _legend(drawing, gallery, y + 30, width)
    for section in gallery.sections:
        y += 26
        drawing.add(
            Line(points=[(_MARGIN, y), (_MARGIN + width, y)], colour="line"),
            Text(x=_MARGIN, y=y + 27, text=section.heading, size=_HEADING_SIZE, room=width),
        )
        y += 46
        for start in range(0, len(section.panels), gallery.columns):
            for column, panel in enumerate(section.panels[start : start + gallery.columns]):
                x = _MARGIN + column * (PANEL_WIDTH + _GAP)
                drawing.place(draw_panel(panel).drawing, x, y)
            y += PANEL_HEIGHT + _ROW_GAP
        y -= _ROW_GAP
    y += 24
    drawing.add(
        Text(x=_MARGIN, y=y, text=gallery.lead, size=_NOTE_SIZE, colour="muted", room=width)
    )
    drawing.height = y + _MARGIN - 10
    return drawing


def _legend(drawing: Drawing, gallery: Gallery, y: float, width: float) -> float:
    """Names after pieces of their lines; the baseline of the last row."""
    entries = [(name, series_role(series)) for series, name in enumerate(gallery.names)]
    if gallery.unnamed:
        entries.insert(0, (gallery.unnamed, "ink"))
    x = _MARGIN
    for name, colour in entries:
        room = min(text_width(name, _LEGEND_SIZE), _WIDEST_NAME) + 1
        if x > _MARGIN and x + _SWATCH + room > _MARGIN + width:
            x, y = _MARGIN, y + 20
        drawing.add(
            Line(points=[(x, y - 4), (x + _SWATCH - 6, y - 4)], colour=colour, width=2.6),
            Text(x=x + _SWATCH, y=y, text=name, size=_LEGEND_SIZE, room=room),
        )
        x += _SWATCH + room + 14
    return y
