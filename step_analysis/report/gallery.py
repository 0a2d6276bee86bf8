"""Which figures a report has, each in the two widths of the page."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from step_analysis.comparison import Comparison
from step_analysis.report.content import PanelContent, ReportContent
from step_analysis.report.drawing import Drawing
from step_analysis.report.figures.evidence import evidence_figure, paths_of
from step_analysis.report.figures.forest import pairs_forest, tasks_forest
from step_analysis.report.figures.layout import NARROW_PIXELS, WIDE_PIXELS, Frame
from step_analysis.report.figures.matrix import matrix_figure, task_matrices_figure
from step_analysis.report.figures.posteriors import posteriors_figure
from step_analysis.report.figures.spider import spider_figure
from step_analysis.report.figures.tasks import tasks_figure
from step_analysis.report.palette import Scheme
from step_analysis.report.wording import percent

FIGURE_NAMES = (
    "posteriors",
    "matrix",
    "forest",
    "evidence",
    "tasks",
    "spider",
    "matrix-by-task",
)
FIGURE_FORMATS = ("svg", "png", "pdf")
_MIN_POLICIES_OF_A_MATRIX = 3
_MIN_TASKS_OF_A_SPIDER = 3


@dataclass(frozen=True, kw_only=True)
class Figure:
    """One figure; `description` is what a reader who can't see it is told."""

    name: str
    description: str
    wide: Drawing
    narrow: Drawing


def figure_file(name: str, scheme: Scheme, suffix: str) -> str:
    """A figure's file within the report's folder."""
    return f"figures/{name}{'-dark' if scheme == 'dark' else ''}.{suffix}"


def draw_figures(content: ReportContent, comparison: Comparison) -> dict[str, Figure]:
    """The figures that this report has something for, by name."""
    indices = {policy.policy: i for i, policy in enumerate(comparison.policies)}
    frames = [
        Frame(width=width, indices=indices, confidence=content.confidence)
        for width in (WIDE_PIXELS, NARROW_PIXELS)
    ]

    def figure(name: str, description: str, draw: Callable[[Frame], Drawing]) -> Figure:
        wide, narrow = (draw(frame) for frame in frames)
        return Figure(name=name, description=description, wide=wide, narrow=narrow)

    made = [*_overall(content, comparison, figure), *_by_task(content, figure)]
    return {each.name: each for each in made}


_MakeFigure = Callable[[str, str, Callable[[Frame], Drawing]], Figure]


def _overall(
    content: ReportContent, comparison: Comparison, figure: _MakeFigure
) -> Iterable[Figure]:
    panel = content.overall
    if panel is None:
        return
    level = percent(content.confidence)
    letters = ""
    if len(panel.rates) > 1:
        letters = "; policies that share a letter are not shown to differ"
    yield figure(
        "posteriors",
        f"{panel.title}: what is believed of each success rate. Violin: Beta posterior; ring: its "
        f"mean; bar: its central {level} interval{letters}.",
        lambda frame: posteriors_figure(panel, frame),
    )
    if len(panel.rates) >= _MIN_POLICIES_OF_A_MATRIX:
        tally = ""
        if len(panel.tasks) > 1:
            tally = " Below it: single tasks on which the row was shown better : worse."
        yield figure(
            "matrix",
            f"{panel.title}: the row's success rate minus the column's, in percentage points. "
            f"Coloured where the test decided, the stronger the larger the difference.{tally}",
            lambda frame: matrix_figure(panel, content.task_panels, frame),
        )
    if panel.pairs:
        yield _forest(panel, content, figure)
    overall = comparison.overall
    if overall is not None and any(pair.num_available for pair in overall.pairs):
        paths = paths_of(overall.pairs, {(row.arm0, row.arm1): row for row in panel.pairs})
        yield figure(
            "evidence",
            f"{panel.title}: how the evidence grew. The lead in successes after each pair of "
            "episodes; a shaded region is where the test stops. Outcomes after the verdict are "
            "grey and were not looked at; where it came early, the plot ends soon after it.",
            lambda frame: evidence_figure(paths, panel, frame),
        )


def _forest(panel: PanelContent, content: ReportContent, figure: _MakeFigure) -> Figure:
    level = percent(content.confidence)
    holds = "is adjusted neither for several pairs nor for stopping early"
    if content.study is not None:
        holds = "holds whenever one stops and is not adjusted for several pairs"
    marks = (
        f"in percentage points, with its {level} interval, which {holds}. Filled and in the better "
        "one's colour: the test decided."
    )
    if len(panel.pairs) > 1:
        return figure(
            "forest",
            f"{panel.title}: the difference of each pair of success rates {marks}",
            lambda frame: pairs_forest(panel, frame),
        )
    tasks = [each for each in content.task_panels if each.pairs]
    overall = panel if len(panel.tasks) > 1 else None
    return figure(
        "forest",
        f"The difference of the two success rates {marks}",
        lambda frame: tasks_forest(tasks, overall, frame),
    )


def _by_task(content: ReportContent, figure: _MakeFigure) -> Iterable[Figure]:
    panels = content.task_panels
    order = content.policies_by_rate
    level = percent(content.confidence)
    yield figure(
        "tasks",
        f"Success rate on each task with its Clopper-Pearson {level} interval.",
        lambda frame: tasks_figure(panels, order, frame),
    )
    if len(panels) >= _MIN_TASKS_OF_A_SPIDER:
        yield figure(
            "spider",
            "Success rates around the tasks, 0 at the centre and 100 % at the rim; dashed, where "
            "there is one: the best policy's rate on each task.",
            lambda frame: spider_figure(panels, order, frame),
        )
    paired = [panel for panel in panels if panel.pairs]
    if len(order) >= _MIN_POLICIES_OF_A_MATRIX and len(paired) > 1:
        yield figure(
            "matrix-by-task",
            "Who is shown better than whom on each task: rows against columns, both in the order "
            "of the overall rates, the best first; who was not run on a task leaves a gap.",
            lambda frame: task_matrices_figure(paired, order, frame),
        )
