"""A gallery as one HTML page that opens offline: its styles, its script and its figures within."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Sequence
from html import escape
from importlib import resources
from typing import Any

import numpy as np

from trainer.plotting.gallery import Gallery, Section, Table
from trainer.plotting.palette import series_role, style_variables
from trainer.plotting.panels import DrawnPanel, Panel, draw_panel, thinned
from trainer.plotting.svg import svg_element, xml_text

_FIGURES_OF_A_NUMBER = 5
_LETTERS_OF_A_LINE = 32


def html_page(gallery: Gallery, picture: str) -> str:
    """picture: the name of the PNG beside it.

    Nothing is loaded, and no script runs but the page's own whatever a name holds: the page
    forbids it by its policy.
    """
    builder = _Builder()
    sections = [builder.section(each) for each in gallery.sections]
    tables = [_table(each) for each in gallery.tables]
    script = _resource("page.js")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    data = json.dumps({"names": list(gallery.names), "panels": builder.panels})
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{rules}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{xml_text(gallery.eyebrow)}: {xml_text(gallery.headline)}</title>\n"
        f"<style>\n{_styles()}</style>\n</head>\n<body>\n<main>\n<header>\n"
        f'<h1 class="eyebrow">{xml_text(gallery.eyebrow)}</h1>\n'
        f'<p class="headline">{xml_text(gallery.headline)}</p>\n'
        f'<p class="lead">{xml_text(gallery.lead)}</p>\n</header>\n'
        f"{_legend(gallery)}\n"
        + "\n".join([*sections, *tables])
        + f'\n<footer>The same as a picture: <a href="{escape(picture)}">{escape(picture)}</a>.'
        '</footer>\n</main>\n<div id="tip" role="tooltip" hidden></div>\n'
        f'<script type="application/json" id="data">{_script_safe(data)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _styles() -> str:
    light, dark = style_variables("light"), style_variables("dark")
    return (
        f":root {{ color-scheme: light; {light} }}\n"
        f"@media (prefers-color-scheme: dark) {{ :root:not([data-theme=light]) {{ "
        f"color-scheme: dark; {dark} }} }}\n"
        f":root[data-theme=dark] {{ color-scheme: dark; {dark} }}\n"
        # Its specificity must equal that of the dark rules above to win over them.
        f"@media print {{ :root:root:root {{ color-scheme: light; {light} --paper: #fff; }} }}\n"
        f"{_resource('page.css')}"
    )


def _resource(name: str) -> str:
    return resources.files("trainer.plotting").joinpath(name).read_text(encoding="utf-8")


def _script_safe(text: str) -> str:
    """JSON that cannot end the element it stands in."""
    return text.replace("<", "\\u003c").replace("&", "\\u0026")


def _swatch(colour: str) -> str:
    return f'<span class="swatch" style="--colour:var(--{colour})"></span>'


def _legend(gallery: Gallery) -> str:
    """Switches where the script runs, and a legend where it does not."""
    chips = "".join(
        f'<button type="button" class="chip" data-run="{series}" aria-pressed="true" '
        f'title="Click: show or hide. Double click: this one alone, or all.">'
        f"{_swatch(series_role(series))}{xml_text(name)}</button>"
        for series, name in enumerate(gallery.names)
    )
    if gallery.unnamed:
        unnamed = f'<span class="chip">{_swatch("ink")}{xml_text(gallery.unnamed)}</span>'
        chips = unnamed + chips
    return (
        f'<nav class="toolbar" aria-label="View"><div class="chips">{chips}</div>'
        '<button type="button" id="theme" class="chip" hidden>Theme: auto</button></nav>'
    )


def _table(table: Table) -> str:
    head = "".join(f"<th>{xml_text(cell)}</th>" for cell in table.head)
    rows = []
    for number, (name, *cells) in enumerate(table.rows):
        series = table.series[number] if table.series else None
        about = "" if series is None else f' data-row="{series}"'
        mark = "" if series is None else _swatch(series_role(series))
        rows.append(
            f'<tr{about}><th scope="row">{mark}{xml_text(name)}</th>'
            + "".join(map(_cell, cells))
            + "</tr>"
        )
    body = (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead><tbody>{"".join(rows)}</tbody>'
        "</table></div>"
    )
    if table.is_minor:
        return f"<details><summary>{xml_text(table.heading)}</summary>{body}</details>"
    lead = f'<p class="lead">{xml_text(table.lead)}</p>' if table.lead else ""
    return f"<section><h2>{xml_text(table.heading)}</h2>{lead}{body}</section>"


def _cell(text: str) -> str:
    kind = ' class="long"' if len(text) > _LETTERS_OF_A_LINE else ""
    return f"<td{kind}>{xml_text(text)}</td>"


class _Builder:
    """`panels` gathers what the script says of each when it is pointed at."""

    def __init__(self) -> None:
        self.panels: list[dict[str, Any]] = []

    def section(self, section: Section) -> str:
        lead = f'<p class="lead">{xml_text(section.lead)}</p>' if section.lead else ""
        figures = "".join(map(self._figure, section.panels))
        return (
            f"<section><h2>{xml_text(section.heading)}</h2>{lead}"
            f'<div class="panels">{figures}</div></section>'
        )

    def _figure(self, panel: Panel) -> str:
        drawn = draw_panel(panel)
        self.panels.append(_pointed_at(panel, drawn))
        label = f"{panel.title}, {panel.unit}" if panel.unit else panel.title
        return (
            f'<figure data-panel="{len(self.panels) - 1}">'
            f"{svg_element(drawn.drawing, label)}</figure>"
        )


def _pointed_at(panel: Panel, drawn: DrawnPanel) -> dict[str, Any]:
    """The frame, the scales and, of each curve that is not faint, its points."""
    curves = []
    for curve in panel.curves:
        if curve.opacity == 1:
            x, y = thinned(curve.x, curve.y)
            kept = np.isfinite(y)
            curves.append(
                {
                    "run": curve.series,
                    "x": _rounded(x[kept].tolist()),
                    "y": _rounded(y[kept].tolist()),
                }
            )
    return {
        "frame": [drawn.left, drawn.right, drawn.top, drawn.bottom],
        "x": [drawn.x.low, drawn.x.high],
        "y": [drawn.y.low, drawn.y.high],
        "log": drawn.y.is_logarithmic,
        "unit": panel.unit,
        "xUnit": panel.x_unit,
        "curves": curves,
    }


def _rounded(numbers: Sequence[float]) -> list[float]:
    return [float(f"{number:.{_FIGURES_OF_A_NUMBER}g}") for number in numbers]
