"""Success under each distribution shift and latency that episodes were run with."""

from html import escape

from step_analysis.comparison import count_of
from step_analysis.dashboard.analyses import chosen_policies
from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.snapshot import NOMINAL
from step_analysis.dashboard.views.material import Material
from step_analysis.differences import newcombe
from step_analysis.report.content import PanelContent, rate_row
from step_analysis.report.figures.tasks import tasks_figure
from step_analysis.report.html_table import Column, Row, table
from step_analysis.report.wording import (
    bare_points,
    percent,
    points_range,
    range_text,
)


def draw_shifts(material: Material, canvas: Canvas) -> None:
    """A block a condition, a row a policy; then what each costs against nominal conditions."""
    panels = _panels(material)
    order = [policy for policy in canvas.indices if any(
        row.policy == policy for panel in panels for row in panel.rates)]  # fmt: skip
    canvas.heading("Success under each condition")
    if list(material.snapshot.conditions) == [NOMINAL]:
        canvas.lead(
            "All of these episodes were run under nominal conditions. sim-client sweep evaluates "
            "under several shifts and latencies; each is then a block here."
        )
    level = percent(material.query.confidence)
    canvas.figure(
        "shifts",
        f"Success rate under each condition with its Clopper-Pearson {level} interval, over the "
        "tasks that all have, pooled.",
        lambda frame: tasks_figure(panels, order, frame),
    )
    nominal = {row.policy: row for panel in panels if panel.title == NOMINAL for row in panel.rates}
    columns = [Column("Condition", "name"), Column("Policy", "name"), Column("Successes")]
    columns += [Column("Rate"), Column(f"{level} interval"), Column("Against nominal, pp")]
    columns += [Column(f"{level} interval")]
    rows, data = [], []
    for panel in panels:
        for row in panel.rates:
            base = nominal.get(row.policy)
            change = interval = None
            if base is not None and base.num_counted and row.num_counted and panel.title != NOMINAL:
                change = (row.rate or 0.0) - (base.rate or 0.0)
                interval = newcombe(
                    base.successes, base.num_counted, row.successes, row.num_counted,
                    material.query.confidence,
                )  # fmt: skip
            cells = [escape(panel.title), canvas.swatch(row.policy)]
            cells += [f"{row.successes}/{row.num_counted}"]
            cells += ["–" if row.rate is None else escape(percent(row.rate))]
            cells += [range_text(row.clopper_pearson), bare_points(change), points_range(interval)]
            rows.append(Row(cells=cells, policies=(canvas.indices[row.policy],)))
            data.append(
                (panel.title, row.policy, row.successes, row.num_counted, row.rate,
                 *(row.clopper_pearson or (None, None)), change, *(interval or (None, None)))
            )  # fmt: skip
    canvas.put(table(columns, rows))
    canvas.lead(
        "Differences have Newcombe's interval for independent arms and are not adjusted for their "
        "number."
    )
    canvas.data(
        "shifts",
        ("condition", "policy", "successes", "counted", "rate", "lower", "upper",
         "against_nominal", "against_lower", "against_upper"),
        data,
    )  # fmt: skip


def _panels(material: Material) -> list[PanelContent]:
    """A panel a condition. Its rates pool the tasks that all policies have under all conditions,
    or where there is none each policy's own."""
    chosen = {
        condition: policies
        for condition in material.snapshot.conditions
        if (policies := chosen_policies(material.snapshot, material.query, condition))
    }
    of_each = [set(policy.tasks) for policies in chosen.values() for policy in policies]
    common = sorted(set.intersection(*of_each))
    panels = []
    for condition, policies in chosen.items():
        counts = [count_of(policy, common or list(policy.tasks)) for policy in policies]
        panels.append(
            PanelContent(
                title=condition,
                tasks=tuple(common),
                is_overall=False,
                rates=tuple(rate_row(count, "", material.query.confidence) for count in counts),
                pairs=(),
            )
        )
    return panels
