"""How the evaluations stand, what is believed of each policy, and which is better."""

from datetime import datetime
from html import escape

from step_analysis.dashboard.canvas import Canvas
from step_analysis.dashboard.views.material import PENDING, Material, as_sentence
from step_analysis.loading import PolicyRollouts
from step_analysis.report.figures.forest import pairs_forest, tasks_forest
from step_analysis.report.figures.matrix import matrix_figure
from step_analysis.report.figures.posteriors import posteriors_figure
from step_analysis.report.html_table import Column, Row, table
from step_analysis.report.page_tables import findings_list, pairs_table, rates_table
from step_analysis.report.wording import percent
from step_analysis.rollouts import Outcome

_MIN_POLICIES_OF_A_MATRIX = 3
_MAX_PAIRS_IN_SIGHT = 10
_LONGEST_PAUSE_S = 60.0
"""A longer one between two episodes is a rest, which the pace leaves out."""


def draw_overview(material: Material, canvas: Canvas) -> None:
    """Headline, standing, rates and pairs."""
    analysis = material.known
    content, overall = analysis.content, analysis.content.overall
    if analysis.has_verdicts:
        canvas.put(f'<p class="headline">{escape(as_sentence(content.headline))}</p>')
        if len(material.policies) > 1:
            canvas.put(
                '<p class="lead">A sequential test may be looked at as often as one likes. '
                "Policies or tasks chosen by their results are outside of what alpha bounds.</p>"
            )
    else:
        canvas.put(PENDING)
    _standing(material, canvas)
    serious = [finding for finding in content.findings if finding.is_serious]
    if serious:
        few = "One thing is" if len(serious) == 1 else f"{len(serious)} things are"
        canvas.put(
            f'<details id="findings" class="found"><summary>{few} wrong with these rollouts'
            f"</summary>{findings_list(serious)}</details>"
        )
    canvas.heading("Success rates")
    panels = [overall] if overall is not None else list(content.task_panels)
    level = percent(content.confidence)
    for panel in panels:
        canvas.lead(f"{panel.title}, intervals at {level}")
        if panel is overall:
            canvas.figure(
                "posteriors",
                f"{panel.title}: what is believed of each success rate. Violin: Beta posterior; "
                f"ring: its mean; bar: its central {level} interval.",
                lambda frame, panel=panel: posteriors_figure(panel, frame),
            )
        canvas.put(rates_table(panel, canvas.indices))
    canvas.data(
        "rates",
        ("panel", "policy", "letters", "successes", "counted", "rate", "lower", "upper",
         "timeouts", "errors", "missing"),
        [
            (panel.title, row.policy, row.letters, row.successes, row.num_counted, row.rate,
             *(row.clopper_pearson or (None, None)), row.num_timeouts, row.num_errors,
             row.num_missing)
            for panel in content.panels
            for row in panel.rates
        ],
    )  # fmt: skip
    _pairs(material, canvas)


def _pairs(material: Material, canvas: Canvas) -> None:
    content = material.known.content
    overall = content.overall
    if overall is None or not overall.pairs:
        return
    canvas.heading("Which is better")
    level = percent(content.confidence)
    if len(overall.rates) >= _MIN_POLICIES_OF_A_MATRIX:
        canvas.figure(
            "matrix",
            f"{overall.title}: the row's success rate minus the column's, in percentage points. "
            "Coloured where the test decided, the stronger the larger the difference.",
            lambda frame: matrix_figure(overall, content.task_panels, frame),
        )
    else:
        tasks = [panel for panel in content.task_panels if panel.pairs]
        several = overall if len(overall.tasks) > 1 else None
        canvas.figure(
            "forest",
            f"The difference of the two success rates in percentage points, with its {level} "
            "interval. Filled and in the better one's colour: the test decided.",
            (lambda frame: pairs_forest(overall, frame))
            if len(overall.pairs) > 1
            else (lambda frame: tasks_forest(tasks, several, frame)),
        )
    pairs = pairs_table(overall, canvas.indices, content.confidence)
    if len(overall.pairs) > _MAX_PAIRS_IN_SIGHT:
        many = f"All {len(overall.pairs)} pairs"
        pairs = f'<details id="pairs"><summary>{many}</summary>{pairs}</details>'
    canvas.put(pairs)
    canvas.data(
        "pairs",
        ("panel", "arm0", "arm1", "winner", "test", "looked_at", "available", "budget",
         "alpha_per_side", "difference", "lower", "upper", "probability_arm1_better", "stopped"),
        [
            (panel.title, pair.arm0, pair.arm1, pair.winner, pair.method, pair.time,
             pair.num_available, pair.n_max, pair.alpha_per_side, pair.difference,
             *(pair.difference_interval or (None, None)), pair.probability_arm1_better,
             pair.stopped_because)
            for panel in content.panels
            for pair in panel.pairs
        ],
    )  # fmt: skip


def _standing(material: Material, canvas: Canvas) -> None:
    """A row a policy: whether it runs, how far it is, and how fast."""
    columns = [
        Column("Policy", "name"), Column("State", "short"), Column("Episodes"),
        Column("Done", "meter"), Column("Errors"), Column("Each minute"), Column("Latest", "text"),
    ]  # fmt: skip
    rows, data = [], []
    for policy in material.by_rate:
        asked = sum(len(task.requested) for task in policy.tasks.values())
        done = sum(len(task.counted) for task in policy.tasks.values())
        errors = sum(len(task.errors) for task in policy.tasks.values())
        is_running = (material.condition, policy.policy) in material.snapshot.running
        state = "running" if is_running else "complete" if done >= asked else "not running"
        pace = _episodes_per_min(policy)
        latest = _latest(policy)
        share = done / asked if asked else 0.0
        rows.append(
            Row(
                cells=[
                    canvas.swatch(policy.policy),
                    f'<span class="state {state.split()[0]}">{state}</span>',
                    f"{done} of {asked}",
                    f'<progress max="1" value="{share:.4f}" '
                    f'aria-label="{100.0 * share:.0f} % done"></progress>',
                    str(errors),
                    "–" if pace is None else f"{pace:.1f}",
                    escape(latest),
                ],
                policies=(canvas.indices[policy.policy],),
            )
        )
        data.append((policy.policy, state, done, asked, errors, pace, latest))
    canvas.heading("How it stands")
    canvas.put(table(columns, rows))
    canvas.data(
        "standing",
        ("policy", "state", "counted", "requested", "errors", "episodes_per_min", "latest"),
        data,
    )


def _latest(policy: PolicyRollouts) -> str:
    records = [
        record
        for task in policy.tasks.values()
        for record in task.outcomes.values()
        if record.started_at is not None
    ]
    if not records:
        return "–"
    last = max(records, key=lambda record: record.started_at or "")
    outcome = "error" if last.outcome is Outcome.ERROR else last.outcome.value
    return f"{last.task} {last.scenario_index}: {outcome}"


def _episodes_per_min(policy: PolicyRollouts) -> float | None:
    """Over the time in which episodes ran; None where none says when it began."""
    spans = sorted(
        (start, start + record.wall_s)
        for task in policy.tasks.values()
        for record in task.counted
        if record.started_at is not None and record.wall_s is not None
        for start in [datetime.fromisoformat(record.started_at).timestamp()]
    )
    busy, ended = 0.0, None
    for begin, end in spans:
        if ended is None or begin > ended + _LONGEST_PAUSE_S:
            busy += end - begin
        else:
            busy += max(end - ended, 0.0)
        ended = end if ended is None else max(ended, end)
    return 60.0 * len(spans) / busy if busy > 0.0 else None
