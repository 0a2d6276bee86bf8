"""Figures as files and as drawings within the page."""

import io
import re
import warnings
from dataclasses import dataclass

import matplotlib as mpl
from matplotlib.figure import Figure

from step_analysis.report.palette import with_variables

_PNG_DOTS_PER_INCH = 200


@dataclass(frozen=True, kw_only=True)
class RenderedFigure:
    """One figure in its three forms."""

    name: str
    description: str
    svg: str
    """For a file: colours fixed, text as outlines, so that it looks the same everywhere."""
    png: bytes
    inline_svg: str
    """For the page: colours and font follow the page."""


def render(name: str, figure: Figure, description: str) -> RenderedFigure:
    """Draw a figure; `description` is what a reader who can't see it is told."""
    with warnings.catch_warnings():
        # A name in a script that the bundled font lacks is drawn as boxes; nothing to stop for.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        return RenderedFigure(
            name=name,
            description=description,
            svg=_svg(figure, name, text="path"),
            png=_png(figure),
            inline_svg=_for_page(_svg(figure, name, text="none")),
        )


def _svg(figure: Figure, name: str, *, text: str) -> str:
    buffer = io.StringIO()
    # The salt keeps ids of drawings on one page apart, and the same in every run.
    with mpl.rc_context({"svg.fonttype": text, "svg.hashsalt": name}):
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    return buffer.getvalue()


def _png(figure: Figure) -> bytes:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=_PNG_DOTS_PER_INCH, metadata={"Software": None})
    return buffer.getvalue()


def _for_page(svg: str) -> str:
    """The drawing as an element of an HTML page."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    # Groups' ids repeat from drawing to drawing; nothing refers to them.
    svg = re.sub(r'<g id="[^"<>]*"', "<g", svg)
    svg = re.sub(r"'DejaVu Sans'[^;\"<>]*", "var(--sans)", svg)
    svg = re.sub(
        r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1
    )
    return with_variables(svg)
