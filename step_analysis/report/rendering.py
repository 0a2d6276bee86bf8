"""Every figure in every format and scheme."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from step_analysis.report.drawing import Drawing
from step_analysis.report.gallery import Figure, figure_file
from step_analysis.report.palette import SCHEMES, Scheme
from step_analysis.report.pdf import pdf_file
from step_analysis.report.png import png_file
from step_analysis.report.svg import svg_file


def render_files(figures: Iterable[Figure]) -> dict[str, bytes]:
    """The figures' files by name within the report's folder."""
    figures = list(figures)
    drawings: list[tuple[str, Drawing, Scheme]] = [
        (figure.name, figure.wide, scheme) for figure in figures for scheme in SCHEMES
    ]
    files: dict[str, bytes] = {}
    # PNGs take nearly all of the time, much of it outside of Python: shrinking and compressing.
    with ThreadPoolExecutor(max_workers=2) as threads:
        pngs = threads.map(_png, drawings)
        for figure in figures:
            for scheme in SCHEMES:
                svg = svg_file(figure.wide, scheme, figure.description)
                files[figure_file(figure.name, scheme, "svg")] = svg.encode("utf-8")
                pdf = pdf_file(figure.wide, scheme, figure.description)
                files[figure_file(figure.name, scheme, "pdf")] = pdf
        for (name, _, scheme), png in zip(drawings, pngs, strict=True):
            files[figure_file(name, scheme, "png")] = png
    return files


def _png(drawing: tuple[str, Drawing, Scheme]) -> bytes:
    _, shapes, scheme = drawing
    return png_file(shapes, scheme)
