"""Every task: rates with intervals and letters, a spider, and who beats whom."""

from html import escape

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import PENDING, Material
from step_analysis.report.figures.matrix import task_matrices_figure
from step_analysis.report.figures.spider import spider_figure
from step_analysis.report.figures.tasks import tasks_figure
from step_analysis.report.page_tables import pairs_table, rates_table, tasks_table
from step_analysis.report.wording import percent

_MIN_TASKS_OF_A_SPIDER = 3
_MIN_POLICIES_OF_A_MATRIX = 3


def draw_tasks(material: Material, canvas: Canvas) -> None:
    """Figures over all tasks, then each task by itself."""
    analysis = material.known
    content = analysis.content
    panels, order = content.task_panels, content.policies_by_rate
    if not analysis.has_verdicts:
        canvas.put(PENDING)
    level = percent(content.confidence)
    canvas.heading("Success by task")
    canvas.figure(
        "tasks",
        f"Success rate on each task with its Clopper-Pearson {level} interval.",
        lambda frame: tasks_figure(panels, order, frame),
    )
    if len(panels) > 1:
        canvas.put(tasks_table(panels, order, canvas.indices))
    if len(panels) >= _MIN_TASKS_OF_A_SPIDER:
        canvas.heading("Around the tasks")
        canvas.figure(
            "spider",
            "Success rates around the tasks, 0 at the centre and 100 % at the rim; dashed, where "
            "there is one: the best policy's rate on each task.",
            lambda frame: spider_figure(panels, order, frame),
        )
    paired = [panel for panel in panels if panel.pairs]
    if len(order) >= _MIN_POLICIES_OF_A_MATRIX and len(paired) > 1:
        canvas.heading("Who beats whom")
        canvas.figure(
            "matrix-by-task",
            "Who is shown better than whom on each task: rows against columns, both in the order "
            "of the overall rates, the best first.",
            lambda frame: task_matrices_figure(paired, order, frame),
        )
    canvas.heading("Every number of each task")
    for panel in panels:
        name = escape(panel.title)
        canvas.put(f'<details id="task-{name}"><summary>{name}</summary>')
        canvas.put(rates_table(panel, canvas.indices))
        if panel.pairs:
            canvas.put(pairs_table(panel, canvas.indices, content.confidence))
        canvas.put("</details>")
    canvas.data(
        "tasks",
        ("task", "policy", "letters", "successes", "counted", "rate", "lower", "upper"),
        [
            (panel.title, row.policy, row.letters, row.successes, row.num_counted, row.rate,
             *(row.clopper_pearson or (None, None)))
            for panel in panels
            for row in panel.rates
        ],
    )  # fmt: skip
