"""Every figure in every format and scheme. PNGs take nearly all of the time, so a second process
draws half of them where there are many."""

import os
import pickle
import subprocess
import sys
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor

from step_analysis.report.drawing import Drawing
from step_analysis.report.gallery import Figure, figure_file
from step_analysis.report.palette import SCHEMES, Scheme
from step_analysis.report.pdf import pdf_file
from step_analysis.report.png import png_file
from step_analysis.report.svg import svg_file

_PIXELS_WORTH_A_PROCESS = 3e6
"""About 0.4 s of drawing, twice what the process takes to start."""


def render_files(figures: Iterable[Figure]) -> dict[str, bytes]:
    """The figures' files by name within the report's folder.

    Raises:
        RuntimeError: the second process ended without its drawings.
    """
    figures = list(figures)
    drawings = [figure.wide for figure in figures]
    files: dict[str, bytes] = {}
    draw_dark = _png_files_apart if _is_worth_a_process(drawings) else _png_files
    with ThreadPoolExecutor(max_workers=1) as waiting:
        dark = waiting.submit(draw_dark, drawings, "dark")
        light = _png_files(drawings, "light")
        for figure in figures:
            for scheme in SCHEMES:
                svg = svg_file(figure.wide, scheme, figure.description)
                files[figure_file(figure.name, scheme, "svg")] = svg.encode("utf-8")
                pdf = pdf_file(figure.wide, scheme, figure.description)
                files[figure_file(figure.name, scheme, "pdf")] = pdf
        for figure, png, dark_png in zip(figures, light, dark.result(), strict=True):
            files[figure_file(figure.name, "light", "png")] = png
            files[figure_file(figure.name, "dark", "png")] = dark_png
    return files


def _is_worth_a_process(drawings: Sequence[Drawing]) -> bool:
    area = sum(drawing.width * drawing.height for drawing in drawings)
    return area > _PIXELS_WORTH_A_PROCESS and (os.cpu_count() or 1) > 1


def _png_files(drawings: Sequence[Drawing], scheme: Scheme) -> list[bytes]:
    return [png_file(drawing, scheme) for drawing in drawings]


def _png_files_apart(drawings: Sequence[Drawing], scheme: Scheme) -> list[bytes]:
    # Not multiprocessing: it would run the caller's main module again.
    done = subprocess.run(
        [sys.executable, "-m", "step_analysis.report.png_process"],
        input=pickle.dumps((drawings, scheme), protocol=pickle.HIGHEST_PROTOCOL),
        capture_output=True,
        check=False,
    )
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        raise RuntimeError(f"drawing PNG figures failed: {''.join(last) or 'no message'}")
    return pickle.loads(done.stdout)  # noqa: S301 - our own process wrote it
