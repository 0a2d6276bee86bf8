"""Writing a report's folder."""

import json
import shutil
import tempfile
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from step_analysis.comparison import Comparison
from step_analysis.report.content import ReportContent
from step_analysis.report.figures import evidence_figure, posterior_figure, tasks_figure
from step_analysis.report.markdown import markdown
from step_analysis.report.page import html_page
from step_analysis.report.palette import policy_colours
from step_analysis.report.rendering import RenderedFigure, render
from step_analysis.report.wording import percent

PAGE_NAME = "index.html"
FIGURE_NAMES = ("posteriors", "tasks", "evidence")


def write_report(output: Path, content: ReportContent, comparison: Comparison) -> Path:
    """Write page, Markdown, numbers and figures into `output`; returns the page's path.

    Everything is built aside first and renamed into place, the page last, so that a reader never
    meets half a file. Other files in the folder are left alone.

    Raises:
        OSError: the folder can't be made or written.
    """
    policies = [policy.policy for policy in comparison.policies]
    colours = policy_colours(policies)
    figures = {figure.name: figure for figure in _figures(content, comparison, colours)}
    files: dict[str, str | bytes] = {}
    for figure in figures.values():
        files[f"figures/{figure.name}.svg"] = figure.svg
        files[f"figures/{figure.name}.png"] = figure.png
    files["report.json"] = json.dumps(asdict(content), allow_nan=False, indent=2) + "\n"
    files["report.md"] = markdown(content, figures)
    files[PAGE_NAME] = html_page(content, figures, colours)
    (output / "figures").mkdir(parents=True, exist_ok=True)
    # Within the folder, because a folder that is a mount can't itself be renamed.
    aside = Path(tempfile.mkdtemp(dir=output, prefix=".report-", suffix=".part"))
    try:
        (aside / "figures").mkdir()
        for name, data in files.items():
            raw = data if isinstance(data, bytes) else data.encode("utf-8", "backslashreplace")
            (aside / name).write_bytes(raw)
        for name in files:
            (aside / name).replace(output / name)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    for name in FIGURE_NAMES:
        if name not in figures:
            for suffix in ("svg", "png"):
                (output / "figures" / f"{name}.{suffix}").unlink(missing_ok=True)
    return output / PAGE_NAME


def _figures(
    content: ReportContent, comparison: Comparison, colours: dict[str, str]
) -> Sequence[RenderedFigure]:
    confidence = percent(content.confidence)
    rendered = []
    if content.overall is not None:
        letters = (
            "; policies that share a letter are not shown to differ"
            if len(content.overall.rates) > 1
            else ""
        )
        rendered.append(
            render(
                "posteriors",
                posterior_figure(content.overall, colours),
                f"{content.overall.title}: what is believed of each success rate. Violin: Beta "
                f"posterior; ring: its mean; bar: its central {confidence} interval{letters}.",
            )
        )
    rendered.append(
        render(
            "tasks",
            tasks_figure(content.task_panels, [p.policy for p in comparison.policies], colours),
            f"Success rate on each task with its Clopper-Pearson {confidence} interval.",
        )
    )
    overall = comparison.overall
    if overall is not None and any(pair.num_available for pair in overall.pairs):
        rendered.append(
            render(
                "evidence",
                evidence_figure(overall.pairs, overall, colours),
                "How the evidence grew: the lead in successes after each pair of episodes. In the "
                "shaded region the test stops. Outcomes after the verdict are drawn in grey and "
                "were not looked at.",
            )
        )
    return rendered
