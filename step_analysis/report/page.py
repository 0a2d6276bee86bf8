"""The report as one HTML page: no network, no script, light and dark, printable."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from importlib import resources
from typing import NamedTuple

from step_analysis.report.content import PanelContent, RateRow, ReportContent
from step_analysis.report.method_notes import method_notes
from step_analysis.report.palette import policy_variable
from step_analysis.report.rendering import RenderedFigure
from step_analysis.report.wording import percent, range_text

MAX_SCORE_CARDS = 4
MAX_TASK_PAIRS = 60
"""With more verdicts on single tasks the letters stand for them; report.json has them all."""

# Nothing is loaded and nothing runs, whatever a name in the report may contain.
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"


def html_page(
    content: ReportContent, figures: Mapping[str, RenderedFigure], colours: Mapping[str, str]
) -> str:
    """The page; `figures` by name, `colours` as drawn by policy."""
    sections = [
        _top(content, colours),
        _rates(content, figures, colours),
        _verdicts(content, figures),
        _tasks(content, figures),
        _errors(content),
        _provenance(content),
        _notes(content),
    ]
    css = resources.files("step_analysis.report").joinpath("page.css").read_text(encoding="utf-8")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(content.title)}</title>\n<style>\n{css}</style>\n</head>\n<body>\n<main>\n"
        + "\n".join(filter(None, sections))
        + "\n</main>\n</body>\n</html>\n"
    )


def _top(content: ReportContent, colours: Mapping[str, str]) -> str:
    headline = content.headline
    if not any(headline.startswith(entry.policy) for entry in content.provenance):
        headline = headline[:1].upper() + headline[1:]
    parts = [
        "<header>",
        f'<h1 class="eyebrow">{escape(content.title)}</h1>',
        f'<p class="headline">{escape(headline)}</p>',
    ]
    if content.overall is not None and len(content.overall.rates) <= MAX_SCORE_CARDS:
        cards = (_score_card(row, content, colours) for row in content.overall.rates)
        parts.append(f'<ul class="scores">{"".join(cards)}</ul>')
    if content.cautions:
        lines = "".join(f"<p>{escape(caution)}</p>" for caution in content.cautions)
        parts.append(f'<div class="caution" role="note">{lines}</div>')
    return "\n".join([*parts, "</header>"])


def _score_card(row: RateRow, content: ReportContent, colours: Mapping[str, str]) -> str:
    interval = ""
    if row.clopper_pearson is not None:
        interval = f"<br>{range_text(row.clopper_pearson)} at {percent(content.confidence)}"
    return (
        f'<li style="--colour: {policy_variable(colours[row.policy])}">'
        f'<span class="name">{escape(row.policy)}</span>'
        f'<span class="number">{_rate(row)}</span>'
        f'<span class="count">{row.successes} of {row.num_counted} episodes{interval}</span></li>'
    )


def _rates(
    content: ReportContent, figures: Mapping[str, RenderedFigure], colours: Mapping[str, str]
) -> str:
    parts = ["<section>", "<h2>Success rates</h2>"]
    panels = [content.overall] if content.overall is not None else list(content.panels)
    for panel in panels:
        level = f"intervals at {percent(content.confidence)}"
        parts.append(f'<p class="lead">{escape(panel.title)}, {level}</p>')
        parts.append(_rate_table(panel, colours))
        if panel is content.overall:
            parts.append(_figure(figures, "posteriors"))
    return "\n".join([*parts, "</section>"])


def _rate_table(panel: PanelContent, colours: Mapping[str, str]) -> str:
    show_letters = len(panel.rates) > 1
    show_timeouts = any(row.num_timeouts for row in panel.rates)
    show_left_out = any(row.num_errors or row.num_missing for row in panel.rates)
    heads = [_text("Policy"), _number("Successes"), _number("Rate")]
    heads += [_number("Clopper-Pearson"), _number("Wilson"), _number("Posterior")]
    heads += [_short("Letters")] * show_letters + [_number("Timeouts")] * show_timeouts
    heads += [_number("Not counted")] * show_left_out
    rows = []
    for row in panel.rates:
        swatch = policy_variable(colours[row.policy])
        cells = [
            _name(f'<span class="swatch" style="--colour: {swatch}"></span>{escape(row.policy)}'),
            _number(f"{row.successes}/{row.num_counted}"),
            _number(_rate(row)),
            _number(range_text(row.clopper_pearson)),
            _number(range_text(row.wilson)),
            _number(_posterior(row)),
        ]
        cells += [_short(escape(row.letters))] * show_letters
        cells += [_number(str(row.num_timeouts))] * show_timeouts
        cells += [_number(_left_out(row))] * show_left_out
        rows.append(cells)
    return _table(heads, rows)


def _left_out(row: RateRow) -> str:
    parts = [f"{row.num_errors} errors"] * bool(row.num_errors)
    parts += [f"{row.num_missing} missing"] * bool(row.num_missing)
    return ", ".join(parts) or "0"


def _verdicts(content: ReportContent, figures: Mapping[str, RenderedFigure]) -> str:
    if not any(panel.pairs for panel in content.panels):
        return ""
    parts = ["<section>", "<h2>Which is better</h2>"]
    task_pairs = sum(len(panel.pairs) for panel in content.task_panels)
    for panel in content.panels:
        if panel.pairs and (panel.is_overall or task_pairs <= MAX_TASK_PAIRS):
            parts.append(f"<h3>{escape(panel.title)}</h3>")
            parts.append(_pair_table(panel))
        if panel.is_overall:
            parts.append(_figure(figures, "evidence"))
    if task_pairs > MAX_TASK_PAIRS:
        parts.append(
            f'<p class="lead">The {task_pairs} verdicts on single tasks are in report.json; their '
            "letters stand in the table by task.</p>"
        )
    return "\n".join([*parts, "</section>"])


def _pair_table(panel: PanelContent) -> str:
    heads = [_text("Policies"), _text("Better"), _short("Test"), _number("Episodes looked at")]
    heads += [_number("Successes in them"), _number("Alpha a side")]
    rows = []
    for pair in panel.pairs:
        verdict = f"<strong>{escape(pair.winner)}</strong>" if pair.winner else "undecided"
        if pair.stopped_because and pair.winner is None:
            verdict += f'<br><span class="aside">{escape(pair.stopped_because)}</span>'
        cells = [
            _pair(f'{escape(pair.arm0)} <span class="aside">and</span> {escape(pair.arm1)}'),
            _text(verdict),
            _short(escape(pair.method)),
            _number(f"{pair.time} of {pair.n_max}"),
            _number(f"{pair.successes0} and {pair.successes1}"),
            _number(f"{pair.alpha_per_side:.3g}"),
        ]
        rows.append(cells)
    return _table(heads, rows)


def _tasks(content: ReportContent, figures: Mapping[str, RenderedFigure]) -> str:
    panels = content.task_panels
    parts = ["<section>", "<h2>By task</h2>", _figure(figures, "tasks")]
    if len(panels) > 1:
        policies = sorted({row.policy for panel in panels for row in panel.rates})
        rows = []
        for panel in panels:
            by_policy = {row.policy: row for row in panel.rates}
            cells = [_number(_task_rate(by_policy.get(policy))) for policy in policies]
            rows.append([_name(escape(panel.title)), *cells])
        parts.append(_table([_text("Task"), *(_number(escape(p)) for p in policies)], rows))
    return "\n".join([*parts, "</section>"])


def _task_rate(row: RateRow | None) -> str:
    if row is None or row.rate is None:
        return "–"
    aside = f"{row.successes}/{row.num_counted} {escape(row.letters)}"
    return f'{_rate(row)} <span class="aside">{aside}</span>'


def _errors(content: ReportContent) -> str:
    if not content.errors:
        return ""
    heads = [_text("Policy"), _text("Task"), _number("Scenario"), _number("Attempts")]
    rows = [
        [
            _name(escape(error.policy)),
            _text(escape(error.task)),
            _number(str(error.scenario_index)),
            _number(str(error.attempt)),
            _text(f"<pre>{escape(error.message)}</pre>"),
        ]
        for error in content.errors
    ]
    return (
        "<section>\n<h2>Errors, not counted</h2>\n"
        '<p class="lead">Faults of the infrastructure. They are no verdict on a policy.</p>\n'
        + _table([*heads, _text("Message")], rows)
        + "\n</section>"
    )


def _provenance(content: ReportContent) -> str:
    parts = ["<section>", "<h2>Design and provenance</h2>"]
    if content.shared_facts:
        parts.append("<h3>All policies</h3>")
        parts.append(_definitions(content.shared_facts))
    for entry in content.provenance:
        parts.append(f"<h3>{escape(entry.policy)}</h3>")
        parts.append(_definitions([*entry.facts, ("Read from", entry.source)]))
    return "\n".join([*parts, "</section>"])


def _notes(content: ReportContent) -> str:
    parts = ['<section class="notes">', "<h2>How this was worked out</h2>"]
    for heading, text in method_notes(content):
        parts.append(f"<h3>{escape(heading)}</h3><p>{escape(text)}</p>")
    parts.append("<h3>To reproduce this report</h3>")
    parts.append(f'<div class="command">{escape(content.command)}</div>')
    parts.append("</section>")
    software = ", ".join(f"{name} {version}" for name, version in content.software)
    parts.append(
        f"<footer>Made {escape(content.created_at)} with {escape(software)}. All numbers are in "
        '<a href="report.json">report.json</a>; the figures are in figures/ as SVG and PNG.'
        "</footer>"
    )
    return "\n".join(parts)


def _figure(figures: Mapping[str, RenderedFigure], name: str) -> str:
    figure = figures.get(name)
    if figure is None:
        return ""
    description = escape(figure.description)
    return f"<figure>{figure.inline_svg}<figcaption>{description}</figcaption></figure>"


class _Cell(NamedTuple):
    """A table's cell: HTML, escaped already, and its class in the style sheet."""

    html: str
    kind: str


def _text(html: str) -> _Cell:
    return _Cell(html, "text")


def _name(html: str) -> _Cell:
    return _Cell(html, "name")


def _pair(html: str) -> _Cell:
    return _Cell(html, "pair")


def _short(html: str) -> _Cell:
    return _Cell(html, "short")


def _number(html: str) -> _Cell:
    return _Cell(html, "figure")


def _table(heads: Sequence[_Cell], rows: Iterable[Sequence[_Cell]]) -> str:
    head = "".join(f'<th class="{cell.kind}" scope="col">{cell.html}</th>' for cell in heads)
    body = "\n".join(f"<tr>{_row(row)}</tr>" for row in rows)
    return (
        f'<div class="wide"><table><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(cells: Iterable[_Cell]) -> str:
    return "".join(f'<td class="{cell.kind}">{cell.html}</td>' for cell in cells)


def _definitions(facts: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in facts)}</dl>"


def _rate(row: RateRow) -> str:
    return "–" if row.rate is None else escape(percent(row.rate))


def _posterior(row: RateRow) -> str:
    if row.posterior_mean is None:
        return "–"
    return f"{100 * row.posterior_mean:.1f} %, {range_text(row.posterior_interval)}"
