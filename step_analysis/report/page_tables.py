"""What the page's tables hold."""

import re
from collections.abc import Mapping, Sequence
from html import escape

from step_analysis.findings import Finding
from step_analysis.report.content import ErrorRow, PairRow, PanelContent, RateRow
from step_analysis.report.figures.layout import leading, left_out_text
from step_analysis.report.html_table import Column, Row, swatch, table
from step_analysis.report.wording import (
    bare_points,
    percent,
    points_range,
    probability_text,
    range_text,
)

Indices = Mapping[str, int]
"""Every policy's index by name."""


def rates_table(panel: PanelContent, indices: Indices) -> str:
    """A row a policy: counts, rate, intervals, letters, and what is not counted."""
    show_letters = len(panel.rates) > 1
    show_timeouts = any(row.num_timeouts for row in panel.rates)
    show_left_out = any(row.num_errors or row.num_missing for row in panel.rates)
    columns = [Column("Policy", "name"), Column("Letters", "short")][: 1 + show_letters]
    columns += [Column("Successes"), Column("Rate")]
    columns += [Column("Clopper-Pearson"), Column("Wilson")]
    columns += [Column("Posterior mean, interval")]
    columns += [Column("Timeouts")] * show_timeouts
    columns += [Column("Not counted")] * show_left_out
    rows = []
    for row in panel.rates:
        cells = [swatch(indices[row.policy]) + escape(row.policy)]
        cells += [escape(row.letters)] * show_letters
        cells += [f"{row.successes}/{row.num_counted}", _rate(row)]
        cells += [range_text(row.clopper_pearson), range_text(row.wilson), _posterior(row)]
        cells += [str(row.num_timeouts)] * show_timeouts
        cells += [left_out_text(row)] * show_left_out
        rows.append(Row(cells=cells, policies=(indices[row.policy],)))
    return table(columns, rows)


def pairs_table(panel: PanelContent, indices: Indices, confidence: float) -> str:
    """A row a pair: the leader minus the other, and how the test decided."""
    levels = {pair.alpha_per_side for pair in panel.pairs}
    columns = [
        Column("First and second", "pair"),
        Column("Verdict", "short"),
        Column("Difference, pp"),
        Column(f"{percent(confidence)} interval"),
        Column("", "plot"),
        Column("P(first higher)"),
        Column("Test", "short"),
        Column("Looked at"),
        Column("Successes in them"),
    ]
    columns += [Column("Alpha a side")] * (len(levels) > 1)
    ends = [end for pair in panel.pairs for end in leading(pair)[3] or ()]
    scale = (min([*ends, 0.0]), max([*ends, 0.01]))
    ordered = sorted(panel.pairs, key=lambda pair: -(leading(pair)[2] or 0.0))
    rows = [_pair_row(pair, indices, scale, len(columns)) for pair in ordered]
    lead = ""
    if len(levels) == 1:
        level = f"{levels.pop():.3g}"
        lead = f'<p class="lead">Each pair at an alpha of {level} for either direction.</p>\n'
    return lead + table(columns, rows)


def _pair_row(pair: PairRow, indices: Indices, scale: tuple[float, float], num_columns: int) -> Row:
    upper, lower, difference, interval = leading(pair)
    # The winner, where there is one, is named first.
    verdict = "<b>first better</b>" if pair.winner else "undecided"
    if pair.stopped_because and pair.winner is None:
        verdict += f'<br><i class="why">{escape(pair.stopped_because)}</i>'
    swapped = upper == pair.arm0
    probability = pair.probability_arm1_better
    if probability is not None and swapped:
        probability = 1.0 - probability
    successes = (pair.successes1, pair.successes0)
    first, second = reversed(successes) if swapped else successes
    cells = [
        f"{escape(upper)}<br><i>and</i> {escape(lower)}",
        verdict,
        bare_points(difference),
        points_range(interval),
        _interval_bar(difference, interval, scale),
        probability_text(probability),
        escape(pair.method),
        f"{pair.time} of {pair.n_max}",
        f"{first} and {second}",
        f"{pair.alpha_per_side:.3g}",
    ]
    return Row(cells=cells[:num_columns], policies=(indices[pair.arm0], indices[pair.arm1]))


def _interval_bar(
    difference: float | None, interval: tuple[float, float] | None, scale: tuple[float, float]
) -> str:
    """The interval as a line beside one at zero; all of a table on one scale."""
    if difference is None or interval is None:
        return ""
    low, high = scale
    begin, middle, end, zero = (
        100.0 * (value - low) / (high - low)
        for value in (interval[0], difference, interval[1], 0.0)
    )
    return (
        f'<s style="--a:{begin:.1f}%;--m:{middle:.1f}%;--w:{end - begin:.1f}%;--z:{zero:.1f}%"></s>'
    )


def tasks_table(panels: Sequence[PanelContent], policies: Sequence[str], indices: Indices) -> str:
    """A row a task, a column a policy: rate, counts and letters."""
    columns = [Column("Task", "name")]
    columns += [Column(_breakable(name), policies=(indices[name],)) for name in policies]
    rows = []
    for panel in panels:
        by_policy = {row.policy: row for row in panel.rates}
        cells = [_task_rate(by_policy.get(policy)) for policy in policies]
        rows.append(Row(cells=[_breakable(panel.title), *cells]))
    return table(columns, rows)


def _breakable(name: str) -> str:
    """A name that may break into lines between its words, as CamelCase joins them."""
    return re.sub("(?<=[a-z0-9])(?=[A-Z])", "<wbr>", escape(name))


def _task_rate(row: RateRow | None) -> str:
    if row is None:
        return "<i>not run</i>"
    if row.rate is None:
        return "–"
    aside = f"{row.successes}/{row.num_counted} {escape(row.letters)}"
    return f"{_rate(row)}<br><i>{aside}</i>"


def errors_table(errors: Sequence[ErrorRow], indices: Indices) -> str:
    """A row an episode without an outcome."""
    columns = [Column("Policy", "name"), Column("Task", "text"), Column("Scenario")]
    columns += [Column("Attempts"), Column("Message", "text")]
    rows = [
        Row(
            cells=[
                escape(error.policy),
                escape(error.task),
                str(error.scenario_index),
                str(error.attempt),
                f"<pre>{escape(error.message)}</pre>",
            ],
            policies=(indices[error.policy],),
        )
        for error in errors
    ]
    return table(columns, rows)


def findings_list(findings: Sequence[Finding]) -> str:
    """Each finding with where it is, how often, and what it does to the numbers."""
    items = []
    for finding in findings:
        where = f'<span class="where">{escape(finding.where)}</span>' if finding.where else ""
        count = ""
        if finding.count > 1:
            count = f'<span class="times">{finding.count}×</span>'
        items.append(
            f'<li class="{escape(finding.severity.value)}"><span class="severity">'
            f"{escape(finding.severity.value)}</span> <code>{escape(finding.code)}</code> "
            f"{count} {where}<p>{escape(finding.text)}</p>"
            f'<p class="effect">Effect: {escape(finding.effect)}</p></li>'
        )
    return f'<ul class="findings">{"".join(items)}</ul>'


def _rate(row: RateRow) -> str:
    return "–" if row.rate is None else escape(percent(row.rate))


def _posterior(row: RateRow) -> str:
    if row.posterior_mean is None:
        return "–"
    return f"{100 * row.posterior_mean:.1f} %, {range_text(row.posterior_interval)}"
