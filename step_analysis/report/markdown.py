"""The report as Markdown, for a pull request or a terminal."""

import re
from collections.abc import Iterable, Mapping, Sequence

from step_analysis.report.caveats import caveats
from step_analysis.report.content import Fact, PairRow, PanelContent, ReportContent
from step_analysis.report.figures.layout import leading
from step_analysis.report.gallery import Figure, figure_file
from step_analysis.report.method_notes import method_notes
from step_analysis.report.wording import bare_points, percent, points_range, range_text


def markdown(content: ReportContent, figures: Mapping[str, Figure]) -> str:
    """The same content as the page; figures are linked as PNG files."""
    lines = [f"# {_safe(content.title)}", "", f"**{_safe(content.headline)}**", ""]
    lines += ["## Caveats", ""]
    lines += [f"- **{each.about}**: {_safe(each.text)}" for each in caveats(content)]
    lines.append("")
    if content.findings:
        lines += ["## What the rollouts' examination found", ""]
        lines += _table(
            ["Severity", "Finding", "Where", "Count", "What is wrong", "Effect"],
            (
                [f.severity.value, f.code, f.where, str(f.count), f.text, f.effect]
                for f in content.findings
            ),
        )
        lines.append("")
    for panel in content.panels:
        lines += [f"## {_safe(panel.title)}", "", *_rates(panel, content.confidence), ""]
        if panel.is_overall:
            lines += _figures(figures, ("posteriors", "matrix", "forest", "evidence"))
        lines += [*(f"- {_pair(pair)}" for pair in panel.pairs), ""]
    lines += _figures(figures, ("tasks", "spider", "matrix-by-task"))
    if content.errors:
        lines += ["## Errors, not counted", ""]
        lines += _table(
            ["Policy", "Task", "Scenario", "Attempts", "Message"],
            (
                [e.policy, e.task, str(e.scenario_index), str(e.attempt), e.message]
                for e in content.errors
            ),
        )
        lines.append("")
    lines += ["## Design and provenance", ""]
    if content.shared_facts:
        lines += ["### All policies", "", *_facts(content.shared_facts), ""]
    for entry in content.provenance:
        lines += [f"### {_safe(entry.policy)}", "", *_facts(entry.facts)]
        lines += [f"- Read from: {_safe(entry.source)}", ""]
    lines += ["## How this was worked out", ""]
    for heading, text in method_notes(content):
        lines += [f"**{_safe(heading)}.** {_safe(text)}", ""]
    lines += ["To reproduce this report:", "", f"    {_one_line(content.command)}", ""]
    software = ", ".join(f"{name} {version}" for name, version in content.software)
    lines += [f"Made {content.created_at} with {_safe(software)}.", ""]
    return "\n".join(lines)


def _facts(facts: Iterable[Fact]) -> list[str]:
    return [f"- {_safe(fact.label)}: {_safe(fact.value)}" for fact in facts]


def _rates(panel: PanelContent, confidence: float) -> list[str]:
    level = percent(confidence)
    heads = ["Policy", "Successes", "Rate", f"Clopper-Pearson {level}", f"Wilson {level}"]
    heads += ["Posterior mean", "Letters", "Errors", "Missing"]
    return _table(
        heads,
        (
            [
                row.policy,
                f"{row.successes}/{row.num_counted}",
                percent(row.rate) if row.rate is not None else "–",
                range_text(row.clopper_pearson),
                range_text(row.wilson),
                "–" if row.posterior_mean is None else f"{100 * row.posterior_mean:.1f} %",
                row.letters,
                str(row.num_errors),
                str(row.num_missing),
            ]
            for row in panel.rates
        ),
    )


def _pair(pair: PairRow) -> str:
    upper, lower, difference, interval = leading(pair)
    text = _safe(pair.sentence)
    if difference is None:
        return text
    return (
        f"{text} Difference {_safe(upper)} − {_safe(lower)}: {_safe(bare_points(difference))} "
        f"points ({_safe(points_range(interval))})."
    )


def _figures(figures: Mapping[str, Figure], names: Iterable[str]) -> list[str]:
    lines = []
    for name in names:
        if name in figures:
            file = figure_file(name, "light", "png")
            lines += [f"![{_safe(figures[name].description)}]({file})", ""]
    return lines


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    lines = [heads, ["---"] * len(heads), *([_safe(cell) for cell in row] for row in rows)]
    return [f"| {' | '.join(line)} |" for line in lines]


def _safe(text: str) -> str:
    """Text that Markdown shows as it is: nothing in it becomes markup, a link or HTML."""
    return re.sub(r"([\\`*_{}\[\]<>()#+!|~&$])", r"\\\1", _one_line(text))


def _one_line(text: str) -> str:
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())
