"""The dashboard's views by name: each puts its words, figures and tables on a canvas."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.errors import draw_errors
from step_analysis.dashboard.views.evidence import draw_evidence
from step_analysis.dashboard.views.failures import draw_failures
from step_analysis.dashboard.views.latency import draw_latency
from step_analysis.dashboard.views.material import Material
from step_analysis.dashboard.views.overview import draw_overview
from step_analysis.dashboard.views.progress import draw_progress
from step_analysis.dashboard.views.provenance import draw_provenance
from step_analysis.dashboard.views.shifts import draw_shifts
from step_analysis.dashboard.views.tasks import draw_tasks


@dataclass(frozen=True, kw_only=True)
class View:
    """A page of the dashboard."""

    title: str
    draw: Callable[[Material, Canvas], None]
    needs_policies: bool = True
    """Whether there is nothing to show before the first episode."""


VIEWS: Mapping[str, View] = {
    "overview": View(title="Overview", draw=draw_overview),
    "tasks": View(title="Tasks", draw=draw_tasks),
    "evidence": View(title="Evidence", draw=draw_evidence),
    "progress": View(title="Progress", draw=draw_progress),
    "failures": View(title="Failures", draw=draw_failures),
    "latency": View(title="Latency", draw=draw_latency),
    "shifts": View(title="Shifts", draw=draw_shifts),
    "errors": View(title="Errors", draw=draw_errors, needs_policies=False),
    "provenance": View(title="Provenance", draw=draw_provenance),
}
