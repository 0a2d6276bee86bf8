"""Faults of the infrastructure, apart from failures, and what could not be read."""

from collections import Counter
from html import escape

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import Material
from step_analysis.report.html_table import Column, Row, table
from step_analysis.report.page_tables import findings_list
from step_analysis.rollouts import RolloutRecord

_MAX_ROWS = 200
_MAX_MESSAGE = 2000


def draw_errors(material: Material, canvas: Canvas) -> None:
    """Attempts that ended in an error, by their messages and one by one; then findings."""
    shown = {policy.policy: policy for policy in material.policies}
    attempts = [
        record
        for record in material.snapshot.error_attempts.get(material.condition, ())
        if record.policy in shown and record.task in shown[record.policy].tasks
    ]
    settled = {
        (record.policy, record.task, record.scenario_index)
        for policy in material.policies
        for task in policy.tasks.values()
        for record in task.counted
    }
    canvas.heading("Errors, not counted")
    canvas.lead(
        "Faults of the infrastructure. They are no verdict on a policy; an episode is tried again "
        "with its seed when the evaluation is resumed."
    )
    if attempts:
        _by_message(attempts, canvas)
        _one_by_one(attempts, settled, canvas)
    else:
        canvas.put("<p>No attempt ended in an error.</p>")
    canvas.data(
        "errors",
        ("policy", "task", "scenario", "seed", "attempt", "settled", "started_at", "message"),
        [
            (r.policy, r.task, r.scenario_index, r.seed, r.attempt, _key(r) in settled,
             r.started_at, r.message)
            for r in attempts
        ],
    )  # fmt: skip
    findings = material.snapshot.faults
    if material.analysis is not None:
        findings = material.analysis.content.findings
    canvas.heading("What was found in the rollouts")
    if findings:
        canvas.put(findings_list(findings))
    else:
        canvas.put("<p>Nothing is wrong with them, as far as the doctor can tell.</p>")
    canvas.data(
        "findings",
        ("severity", "code", "policy", "task", "count", "text", "effect"),
        [(f.severity.value, f.code, f.policy, f.task, f.count, f.text, f.effect) for f in findings],
    )


def _key(record: RolloutRecord) -> tuple[str, str, int]:
    return record.policy, record.task, record.scenario_index


def _by_message(attempts: list[RolloutRecord], canvas: Canvas) -> None:
    counts = Counter(_last_line(record) for record in attempts)
    columns = [Column("Attempts"), Column("Last line of the message", "text")]
    rows = [
        Row(cells=[str(count), f"<pre>{escape(line)}</pre>"])
        for line, count in counts.most_common(20)
    ]
    canvas.put(table(columns, rows))


def _last_line(record: RolloutRecord) -> str:
    lines = (record.message or "").strip().splitlines()
    return lines[-1][:200] if lines else "no message"


def _one_by_one(
    attempts: list[RolloutRecord], settled: set[tuple[str, str, int]], canvas: Canvas
) -> None:
    columns = [Column("Policy", "name"), Column("Task", "text"), Column("Scenario")]
    columns += [Column("Attempt"), Column("Since", "short"), Column("Message", "text")]
    rows = [
        Row(
            cells=[
                canvas.swatch(record.policy),
                escape(record.task),
                str(record.scenario_index),
                str(record.attempt),
                "decided" if _key(record) in settled else "<b>open</b>",
                f"<pre>{escape((record.message or 'no message')[:_MAX_MESSAGE])}</pre>",
            ],
            policies=(canvas.indices[record.policy],),
        )
        for record in attempts[-_MAX_ROWS:]
    ]
    canvas.put(f'<details id="attempts"><summary>Every attempt ({len(attempts)})</summary>')
    if len(attempts) > _MAX_ROWS:
        canvas.lead(f"The last {_MAX_ROWS}; all are in the exports.")
    canvas.put(table(columns, rows))
    canvas.put("</details>")
