"""Writing a report's folder."""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path

from step_analysis.comparison import Comparison
from step_analysis.report.content import ReportContent
from step_analysis.report.document import pdf_report
from step_analysis.report.gallery import FIGURE_FORMATS, FIGURE_NAMES, draw_figures, figure_file
from step_analysis.report.latex import latex_tables
from step_analysis.report.markdown import markdown
from step_analysis.report.page import html_page
from step_analysis.report.palette import SCHEMES
from step_analysis.report.rendering import render_files

PAGE_NAME = "index.html"
DOCUMENT_NAME = "report.pdf"
TABLES_NAME = "tables.tex"


def write_report(
    output: Path,
    content: ReportContent,
    comparison: Comparison,
    *,
    pdf: bool = False,
    latex: bool = False,
) -> Path:
    """Write page, Markdown, numbers and figures into `output`; returns the page's path.

    Args:
        pdf: the whole as report.pdf, too.
        latex: the tables as tables.tex, too.

    Everything is built aside first and renamed into place, the page last, so that a reader never
    meets half a file. Other files in the folder are left alone.

    Raises:
        OSError: the folder can't be made or written.
    """
    figures = draw_figures(content, comparison)
    files = render_files(figures.values())
    texts = {
        "report.json": json.dumps(asdict(content), allow_nan=False, indent=2) + "\n",
        "report.md": markdown(content, figures),
        PAGE_NAME: html_page(content, figures),
    }
    if latex:
        texts[TABLES_NAME] = latex_tables(content)
    if pdf:
        files[DOCUMENT_NAME] = pdf_report(content, figures)
    files |= {name: text.encode("utf-8", "backslashreplace") for name, text in texts.items()}
    (output / "figures").mkdir(parents=True, exist_ok=True)
    # Within the folder, because a folder that is a mount can't itself be renamed.
    aside = Path(tempfile.mkdtemp(dir=output, prefix=".report-", suffix=".part"))
    try:
        (aside / "figures").mkdir()
        for name, data in files.items():
            (aside / name).write_bytes(data)
        for name in files:
            (aside / name).replace(output / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for name in {DOCUMENT_NAME, TABLES_NAME} - files.keys():
        # Of an earlier report, whose numbers these are not.
        (output / name).unlink(missing_ok=True)
    for name in set(FIGURE_NAMES) - figures.keys():
        for scheme in SCHEMES:
            for suffix in FIGURE_FORMATS:
                (output / figure_file(name, scheme, suffix)).unlink(missing_ok=True)
    return output / PAGE_NAME
