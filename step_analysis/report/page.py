"""The report as one HTML page that opens offline: its styles, script, type and figures within."""

import base64
import hashlib
from collections.abc import Mapping, Sequence
from html import escape

from step_analysis.doctor.tally import plural
from step_analysis.report.caveats import Caveat, caveats
from step_analysis.report.content import RateRow, ReportContent
from step_analysis.report.gallery import FIGURE_FORMATS, Figure, figure_file
from step_analysis.report.html_table import swatch
from step_analysis.report.method_notes import method_notes
from step_analysis.report.page_files import page_script, page_styles, script_safe
from step_analysis.report.page_tables import (
    errors_table,
    findings_list,
    pairs_table,
    rates_table,
    tasks_table,
)
from step_analysis.report.palette import policy_role
from step_analysis.report.svg import svg_element
from step_analysis.report.wording import percent, range_text

MAX_SCORE_CARDS = 4


def html_page(content: ReportContent, figures: Mapping[str, Figure]) -> str:
    """The page; `figures` by name.

    Nothing is loaded and no script runs but the page's own, whatever a name in the report holds:
    the page forbids it by its policy.
    """
    builder = _Builder(content, figures)
    sections = [
        builder.top(),
        builder.findings(),
        builder.toolbar(),
        builder.rates(),
        builder.verdicts(),
        builder.tasks(),
        builder.errors(),
        builder.provenance(),
        builder.notes(),
    ]
    script = page_script()
    digest = base64.b64encode(hashlib.sha256(script.encode("utf-8")).digest()).decode("ascii")
    rules = (
        f"default-src 'none'; style-src 'unsafe-inline'; font-src data:; "
        f"script-src 'sha256-{digest}'"
    )
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{rules}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light dark">\n'
        f"<title>{escape(content.title)}</title>\n<style>\n{page_styles()}</style>\n</head>\n<body>\n"
        "<main>\n" + "\n".join(filter(None, sections)) + "\n</main>\n"
        '<div id="tip" role="tooltip" hidden></div>\n'
        f'<script type="application/json" id="tips">{script_safe(builder.tips)}</script>\n'
        f"<script>{script}</script>\n</body>\n</html>\n"
    )


def _seen(caveat: Caveat) -> str:
    """Short where the list below tells the findings in full."""
    if not caveat.findings:
        return caveat.text
    serious = sum(each.is_serious for each in caveat.findings)
    notes = len(caveat.findings) - serious
    parts = [f"{serious} serious"] * bool(serious) + [plural(notes, "note")] * bool(notes)
    return f"{' and '.join(parts)}, told below."


class _Builder:
    """The page's sections; `tips` gathers what the figures say when pointed at, each text once."""

    def __init__(self, content: ReportContent, figures: Mapping[str, Figure]) -> None:
        self._content = content
        self._figures = figures
        self._indices = {entry.policy: index for index, entry in enumerate(content.provenance)}
        self._tip_numbers: dict[str, int] = {}

    @property
    def tips(self) -> list[str]:
        return list(self._tip_numbers)

    def top(self) -> str:
        content = self._content
        headline = content.headline
        if not any(headline.startswith(entry.policy) for entry in content.provenance):
            headline = headline[:1].upper() + headline[1:]
        parts = [
            "<header>",
            f'<h1 class="eyebrow">{escape(content.title)}</h1>',
            f'<p class="headline">{escape(headline)}</p>',
        ]
        if content.overall is not None and len(content.overall.rates) <= MAX_SCORE_CARDS:
            cards = map(self._score_card, content.overall.rates)
            parts.append(f'<ul class="scores">{"".join(cards)}</ul>')
        return "\n".join([*parts, "</header>"])

    def _score_card(self, row: RateRow) -> str:
        interval = ""
        if row.clopper_pearson is not None:
            level = percent(self._content.confidence)
            interval = f"<br>{range_text(row.clopper_pearson)} at {level}"
        role = policy_role(self._indices[row.policy])
        rate = "–" if row.rate is None else escape(percent(row.rate))
        return (
            f'<li style="--colour:var(--{role})"><span class="name">{escape(row.policy)}</span>'
            f'<span class="number">{rate}</span><span class="count">{row.successes} of '
            f"{row.num_counted} episodes{interval}</span></li>"
        )

    def findings(self) -> str:
        """Caveats by kind; what is serious in sight, what is worth knowing to be opened."""
        told = "".join(
            f"<dt>{escape(each.about)}</dt><dd>{escape(_seen(each))}</dd>"
            for each in caveats(self._content)
        )
        serious = [finding for finding in self._content.findings if finding.is_serious]
        notes = [finding for finding in self._content.findings if not finding.is_serious]
        parts = [f'<h2>Caveats</h2><dl class="caveats">{told}</dl>']
        if serious:
            parts.append(findings_list(serious))
        if notes:
            heading = f"{len(notes)} more notes" if serious else f"{len(notes)} notes"
            if len(notes) == 1:
                heading = "One more note" if serious else "One note"
            parts.append(f"<details><summary>{heading} on the rollouts</summary>")
            parts.append(f"{findings_list(notes)}</details>")
        if not parts:
            parts.append('<p class="lead">The doctor found nothing wrong with the rollouts.</p>')
        return "\n".join(['<section class="doctor" aria-label="Findings">', *parts, "</section>"])

    def toolbar(self) -> str:
        """Switches for policies and for the colour scheme; shown only where the script runs."""
        chips = ""
        if len(self._indices) > 1:
            chips = "".join(
                f'<button type="button" class="chip" data-policy="{index}" aria-pressed="true" '
                f'title="Click: show or hide. Double click: this one alone, or all.">'
                f"{swatch(index)}{escape(policy)}</button>"
                for policy in self._content.policies_by_rate
                for index in [self._indices[policy]]
            )
        return (
            f'<nav class="toolbar" aria-label="View"><div class="chips">{chips}</div>'
            '<button type="button" id="theme" class="chip">Theme: auto</button></nav>'
        )

    def rates(self) -> str:
        content = self._content
        parts = ["<section>", "<h2>Success rates</h2>"]
        panels = [content.overall] if content.overall is not None else list(content.panels)
        for panel in panels:
            level = f"intervals at {percent(content.confidence)}"
            parts.append(f'<p class="lead">{escape(panel.title)}, {level}</p>')
            parts.append(self._figure("posteriors") if panel is content.overall else "")
            parts.append(rates_table(panel, self._indices))
        return "\n".join([*filter(None, parts), "</section>"])

    def verdicts(self) -> str:
        content = self._content
        if not any(panel.pairs for panel in content.panels):
            return ""
        parts = ["<section>", "<h2>Which is better</h2>"]
        overall = content.overall
        parts += [self._figure("matrix"), self._figure("forest")]
        if overall is not None and overall.pairs:
            parts.append(f"<h3>{escape(overall.title)}</h3>")
            parts.append(pairs_table(overall, self._indices, content.confidence))
        parts.append(self._figure("evidence"))
        return "\n".join([*filter(None, parts), "</section>"])

    def tasks(self) -> str:
        content = self._content
        panels = content.task_panels
        parts = ["<section>", "<h2>By task</h2>", self._figure("tasks")]
        if len(panels) > 1:
            parts.append(tasks_table(panels, content.policies_by_rate, self._indices))
        parts += [self._figure("spider"), self._figure("matrix-by-task")]
        shown = {content.overall.title} if content.overall is not None else set()
        if content.overall is None:
            shown |= {panel.title for panel in content.panels if not panel.pairs}
        details = [panel for panel in panels if panel.title not in shown]
        if details:
            parts.append("<h3>Every number of each task</h3>")
        for panel in details:
            parts.append(f"<details><summary>{escape(panel.title)}</summary>")
            parts.append(rates_table(panel, self._indices))
            if panel.pairs:
                parts.append(pairs_table(panel, self._indices, content.confidence))
            parts.append("</details>")
        return "\n".join([*filter(None, parts), "</section>"])

    def errors(self) -> str:
        if not self._content.errors:
            return ""
        return (
            "<section>\n<h2>Errors, not counted</h2>\n"
            '<p class="lead">Faults of the infrastructure. They are no verdict on a policy.</p>\n'
            f"{errors_table(self._content.errors, self._indices)}\n</section>"
        )

    def provenance(self) -> str:
        parts = ["<section>", "<h2>Design and provenance</h2>"]
        if self._content.shared_facts:
            parts += ["<h3>All policies</h3>", definitions(list(self._content.shared_facts))]
        for entry in self._content.provenance:
            parts.append(f"<h3>{escape(entry.policy)}</h3>")
            parts.append(definitions([*entry.facts, ("Read from", entry.source)]))
        return "\n".join([*parts, "</section>"])

    def notes(self) -> str:
        content = self._content
        parts = ['<section class="notes">', "<h2>How this was worked out</h2>"]
        for heading, text in method_notes(content):
            parts.append(f"<h3>{escape(heading)}</h3><p>{escape(text)}</p>")
        parts.append("<h3>To reproduce this report</h3>")
        parts.append(f'<div class="command">{escape(content.command)}</div>')
        parts.append("</section>")
        software = ", ".join(f"{name} {version}" for name, version in content.software)
        parts.append(
            f"<footer>Made {escape(content.created_at)} with {escape(software)}. All numbers are "
            'in <a href="report.json">report.json</a>; the figures are in figures/ as SVG, PNG '
            "and PDF, light and dark.</footer>"
        )
        return "\n".join(parts)

    def _figure(self, name: str) -> str:
        figure = self._figures.get(name)
        if figure is None:
            return ""
        drawings = "".join(
            svg_element(drawing, self._tip_number, kind)
            for kind, drawing in (("wide", figure.wide), ("narrow", figure.narrow))
        )
        links = " ".join(
            f'<a href="{figure_file(name, "light", suffix)}">{suffix.upper()}</a>'
            for suffix in FIGURE_FORMATS
        )
        return (
            f'<figure id="{name}">{drawings}<figcaption>{escape(figure.description)} '
            f'<span class="files">{links}</span></figcaption></figure>'
        )

    def _tip_number(self, tip: str) -> int:
        return self._tip_numbers.setdefault(tip, len(self._tip_numbers))


def definitions(facts: Sequence[tuple[str, str]]) -> str:
    """Names with their values."""
    return f"<dl>{''.join(f'<dt>{escape(k)}</dt><dd>{escape(v)}</dd>' for k, v in facts)}</dl>"
