"""A report's tables for a paper: LaTeX that needs no package, to be taken in by \\input."""

import re
from collections.abc import Iterable, Sequence

from step_analysis.report.content import PanelContent, ReportContent
from step_analysis.report.figures.layout import leading
from step_analysis.report.wording import bare_points, percent, points_range, range_text

_SPECIAL = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': "''",
    # At the beginning of a row they would be arguments of the \\ that ends the one above.
    "[": "{[}",
    "*": "{*}",
    "\u2013": "--",
    "\u2212": "$-$",
}


def latex_tables(content: ReportContent) -> str:
    """Rates and pairs of each panel, each a `table` with a caption and a label; ends with a
    newline. Names are text: nothing in them is a command."""
    lines = [f"% {_one_line(content.title)}, made {content.created_at}", ""]
    for number, panel in enumerate(content.panels):
        label = "overall" if panel.is_overall else f"task-{number}"
        lines += _rates(panel, content, label)
        if panel.pairs:
            lines += _pairs(panel, content, label)
    return "\n".join(lines)


def _rates(panel: PanelContent, content: ReportContent, label: str) -> list[str]:
    level = percent(content.confidence)
    rows = [
        [
            row.policy,
            f"{row.successes}/{row.num_counted}",
            "\u2013" if row.rate is None else percent(row.rate),
            range_text(row.clopper_pearson),
            row.letters,
        ]
        for row in panel.rates
    ]
    caption = (
        f"{panel.title}: success rates with Clopper-Pearson intervals ({level}). Policies that "
        "share a letter are not shown to differ."
    )
    heads = ["Policy", "Successes", "Rate", f"{level} interval", "Letters"]
    return _table(heads, rows, "lrrrl", caption, f"tab:rates-{label}")


def _pairs(panel: PanelContent, content: ReportContent, label: str) -> list[str]:
    rows = []
    for pair in panel.pairs:
        upper, lower, difference, interval = leading(pair)
        rows.append(
            [
                f"{upper} \u2212 {lower}",
                bare_points(difference),
                points_range(interval),
                pair.winner or "undecided",
                f"{pair.time} of {pair.n_max}",
            ]
        )
    methods = sorted({pair.method for pair in panel.pairs})
    caption = (
        f"{panel.title}: differences in percentage points with {percent(content.confidence)} "
        f"intervals, and what the test ({', '.join(methods)}; alpha {content.alpha:g}) decided "
        "after how many episodes of each policy."
    )
    heads = ["Pair", "Difference", "Interval", "Better", "Episodes"]
    return _table(heads, rows, "lrrlr", caption, f"tab:pairs-{label}")


def _table(
    heads: Sequence[str],
    rows: Iterable[Sequence[str]],
    alignment: str,
    caption: str,
    label: str,
) -> list[str]:
    def line(cells: Sequence[str]) -> str:
        return " & ".join(map(_safe, cells)) + r" \\"

    return [
        r"\begin{table}",
        r"\centering",
        rf"\caption{{{_safe(caption)}}}",
        rf"\label{{{label}}}",
        rf"\begin{{tabular}}{{{alignment}}}",
        r"\hline",
        line(heads),
        r"\hline",
        *map(line, rows),
        r"\hline",
        r"\end{tabular}",
        r"\end{table}",
        "",
    ]


def _safe(text: str) -> str:
    return "".join(_SPECIAL.get(character, character) for character in _one_line(text))


def _one_line(text: str) -> str:
    return re.sub(r"\s+", " ", "".join(c if c.isprintable() else " " for c in text)).strip()
