"""How far episodes come: the mean as episodes arrive, and what failures still reached."""

from collections.abc import Sequence
from html import escape

import numpy as np

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import Material, chooser, select
from step_analysis.evidence import block_order
from step_analysis.loading import PolicyRollouts, TaskRollouts
from step_analysis.report.figures.curves import Curve, curves_figure
from step_analysis.report.html_table import Column, Row, table
from step_analysis.report.wording import percent
from step_analysis.rollouts import Outcome, RolloutRecord
from step_analysis.sequential.confidence_sequence import mean_sequence, rate_sequence

MAX_EPISODES = 5000
"""Of a curve: what is longer is cut, which the page then says."""
_MAX_PREDICATES = 30


def draw_progress(material: Material, canvas: Canvas) -> None:
    """Curves of mean progress, or of success where no progress is recorded; then predicates."""
    tasks = material.tasks
    together = f"All {len(tasks)} tasks"
    chosen = material.query.one_task if material.query.one_task in tasks else ""
    if len(tasks) > 1:
        options = [("", together), *((task, task) for task in tasks)]
        control = select("one_task", "Task", options, chosen)
        canvas.put(chooser(material.query, "progress", [control], ["one_task"]))
    wanted = [chosen] if chosen else list(tasks)
    records = {
        policy.policy: prefix for policy in material.by_rate if (prefix := _prefix(policy, wanted))
    }
    where = together if len(wanted) > 1 else wanted[0]
    canvas.heading("As episodes arrive")
    if not records:
        canvas.lead(f"{where}: no policy has finished its first episode yet.")
        return
    has_progress = all(r.progress is not None for rs in records.values() for r in rs)
    unit = "mean progress" if has_progress else "success rate"
    if not has_progress:
        canvas.lead(
            "Not all of these results record how far an episode came, so the curves are of success."
        )
    curves = [_curve(name, rs, material, has_progress) for name, rs in records.items()]
    level = percent(material.query.confidence)
    canvas.figure(
        "progress",
        f"{where}: the {unit} over the episodes so far, in the order of the design, as far as "
        f"they are finished without a gap. Band: a {level} confidence sequence, which holds at all "
        "times at once, however often one looks.",
        lambda frame: curves_figure(curves, frame, unit),
    )
    canvas.data(
        "progress",
        ("policy", "episodes", unit.replace(" ", "_"), "lower", "upper"),
        [
            (curve.policy, t, mean, lower, upper)
            for curve in curves
            for t, (mean, lower, upper) in enumerate(
                zip(curve.mean.tolist(), curve.lower.tolist(), curve.upper.tolist(), strict=True),
                start=1,
            )
        ],
    )
    _settled(curves, canvas, unit, level)
    _predicates(material, canvas, wanted)


def _settled(curves: Sequence[Curve], canvas: Canvas, unit: str, level: str) -> None:
    columns = [Column("Policy", "name"), Column("Episodes"), Column(escape(unit.capitalize()))]
    columns += [Column(f"{level} at all times")]
    rows = [
        Row(
            cells=[
                canvas.swatch(curve.policy),
                str(len(curve.mean)),
                f"{100.0 * curve.mean[-1]:.1f} %",
                f"{100.0 * curve.lower[-1]:.1f}–{100.0 * curve.upper[-1]:.1f} %",
            ],
            policies=(canvas.indices[curve.policy],),
        )
        for curve in curves
    ]
    canvas.put(table(columns, rows))


def _prefix(policy: PolicyRollouts, tasks: Sequence[str]) -> list[RolloutRecord]:
    """Finished episodes in the order of the design up to the first gap: by scenario index on one
    task, in blocks of one episode of each over several."""
    if any(task not in policy.tasks for task in tasks):
        return []
    rollouts = [policy.tasks[task] for task in tasks]
    num_blocks = min(len(task.requested) for task in rollouts)
    found: list[RolloutRecord] = []
    for block, order in enumerate(block_order(len(tasks), num_blocks).tolist()):
        for task in order:
            record = _counted(rollouts[task], block)
            if record is None or len(found) == MAX_EPISODES:
                return found
            found.append(record)
    return found


def _counted(task: TaskRollouts, position: int) -> RolloutRecord | None:
    record = task.outcomes.get(task.requested[position])
    return record if record is not None and record.outcome.counts else None


def _curve(
    policy: str, records: Sequence[RolloutRecord], material: Material, has_progress: bool
) -> Curve:
    confidence = material.query.confidence
    if has_progress:
        scores = np.array([record.progress for record in records], dtype=float)
        sequence = mean_sequence(scores, confidence)
    else:
        scores = np.array([record.outcome is Outcome.SUCCESS for record in records], dtype=int)
        sequence = rate_sequence(scores, confidence)
    mean = np.cumsum(scores) / np.arange(1, len(scores) + 1)
    return Curve(policy=policy, mean=mean, lower=sequence.lower, upper=sequence.upper)


def _predicates(material: Material, canvas: Canvas, tasks: Sequence[str]) -> None:
    """Of the episodes that did not succeed, how many reached each predicate."""
    counts: dict[tuple[str, str], dict[str, tuple[int, int]]] = {}
    for policy in material.by_rate:
        for task in tasks:
            for record in policy.tasks[task].counted if task in policy.tasks else ():
                if record.outcome is Outcome.SUCCESS:
                    continue
                for name, value in record.detail.items():
                    if isinstance(value, bool):
                        true, seen = counts.setdefault((task, name), {}).get(policy.policy, (0, 0))
                        counts[task, name][policy.policy] = (true + value, seen + 1)
    if not counts:
        return
    policies = [policy.policy for policy in material.by_rate]
    shown = list(counts.items())[:_MAX_PREDICATES]
    columns = [Column("Task", "text"), Column("Predicate", "name")]
    columns += [Column(escape(name), policies=(canvas.indices[name],)) for name in policies]
    rows = []
    for (task, name), by_policy in shown:
        cells = [escape(task), f"<code>{escape(name)}</code>"]
        for policy in policies:
            true, seen = by_policy.get(policy, (0, 0))
            cells.append(f"{true} of {seen}" if seen else "–")
        rows.append(Row(cells=cells))
    canvas.heading("What failures still reached")
    canvas.lead("Of the episodes without success: in how many each predicate held at the end.")
    canvas.put(table(columns, rows))
    if len(counts) > len(shown):
        canvas.lead(f"{len(counts) - len(shown)} more are in the exports.")
    canvas.data(
        "predicates",
        ("task", "predicate", "policy", "held", "episodes"),
        [
            (task, name, policy, true, seen)
            for (task, name), by_policy in counts.items()
            for policy, (true, seen) in by_policy.items()
        ],
    )
