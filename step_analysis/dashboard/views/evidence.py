"""The statistic walking towards its boundary, episode by episode."""

import math
from html import escape

import numpy as np

from step_analysis.comparison import Panel
from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import PENDING, Material, as_sentence, chooser, select
from step_analysis.report.content import PanelContent
from step_analysis.report.figures.evidence import PairPath, evidence_figure, pair_path, paths_of

MAX_PATHS = 66


def draw_evidence(material: Material, canvas: Canvas) -> None:
    """One pair's path in full, then those of all pairs."""
    analysis = material.known
    if len(material.policies) < 2:
        canvas.lead("There is no second policy to compare this one with.")
        return
    if not analysis.has_verdicts:
        canvas.put(PENDING)
        return
    comparison, content = analysis.comparison, analysis.content
    panels = [*([comparison.aggregate] if comparison.aggregate else []), *comparison.task_panels]
    by_title = {panel.title: panel for panel in panels}
    rows = {panel.title: panel for panel in content.panels}
    panel = by_title.get(material.query.one_task, comparison.overall or panels[0])
    first, second = material.pair()
    names = [(policy.policy, policy.policy) for policy in material.by_rate]
    controls = [
        select("first", "Policy", names, first.policy),
        select("second", "against", names, second.policy if second else ""),
        select("one_task", "on", [(title, title) for title in by_title], panel.title),
    ]
    canvas.put(chooser(material.query, "evidence", controls, ["first", "second", "one_task"]))
    path = _path(panel, rows[panel.title], first.policy, second.policy if second else "")
    canvas.heading("One pair")
    if path is None:
        canvas.lead(
            f"{first.policy} and {second.policy if second else 'another policy'} have no finished "
            f"episode in common on {panel.title}."
        )
    else:
        canvas.put(
            f"<p>{escape(as_sentence(path.row.sentence))} {escape(_where_it_stands(path))}</p>"
        )
        canvas.figure(
            "path",
            f"{panel.title}: the lead in successes after each pair of episodes; a shaded region is "
            "where the test stops. Outcomes after the verdict are grey and were not looked at.",
            lambda frame: evidence_figure([path], rows[panel.title], frame),
        )
        canvas.data(
            "path",
            ("episodes", "upper", "lower", "lead", "upper_stops_at", "lower_stops_at"),
            _steps(path),
        )
    pairs = [pair for pair in panel.pairs if pair.num_available]
    if 1 < len(pairs) <= MAX_PATHS:
        by_arms = {(row.arm0, row.arm1): row for row in rows[panel.title].pairs}
        paths = paths_of(pairs, by_arms)
        canvas.heading("Every pair")
        canvas.figure(
            "paths",
            f"{panel.title}: the same of every pair. Where the verdict came early, the plot ends "
            "soon after it.",
            lambda frame: evidence_figure(paths, rows[panel.title], frame),
        )
    elif len(pairs) > MAX_PATHS:
        canvas.lead(f"{len(pairs)} pairs are too many to draw; choose policies by the filters.")


def _path(panel: Panel, content: PanelContent, first: str, second: str) -> PairPath | None:
    for pair, row in zip(panel.pairs, content.pairs, strict=True):
        if {pair.arm0, pair.arm1} == {first, second} and pair.num_available:
            return pair_path(pair, row)
    return None


def _where_it_stands(path: PairPath) -> str:
    """The lead now, and the one that would decide."""
    seen = path.row.time
    lead = int(path.lead[seen])
    ahead = path.upper if lead >= 0 else path.lower
    text = f"After {seen} episodes of each, {ahead} leads by {abs(lead)}"
    stops = path.upper_stops if lead >= 0 else path.lower_stops
    if path.row.winner is None and stops is not None and seen and np.isfinite(stops[seen - 1]):
        text += f"; the test would have stopped at a lead of {abs(stops[seen - 1]):.0f}"
    return f"{text}."


def _steps(path: PairPath) -> list[tuple[int, str, str, int, float | None, float | None]]:
    def stop(stops: np.ndarray | None, t: int) -> float | None:
        if stops is None or not t or t > len(stops) or math.isnan(stops[t - 1]):
            return None
        return float(stops[t - 1])

    return [
        (t, path.upper, path.lower, int(lead), stop(path.upper_stops, t), stop(path.lower_stops, t))
        for t, lead in enumerate(path.lead)
    ]
