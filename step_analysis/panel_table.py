"""The table of a comparison: successes, interval and letters of each policy on each task."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from step_analysis.comparison import Comparison, Panel
from step_analysis.intervals import Interval, clopper_pearson

AGGREGATE_NAME = "__aggregate__"
"""In the place of a task: all tasks common to all policies."""

TableFormat = Literal["text", "markdown", "csv"]

_HEADINGS = ("task", "policy", "successes", "n", "rate", "lower", "upper", "letters")
_NUM_NAMES = 2
"""Columns with names, aligned on the left."""


@dataclass(frozen=True, kw_only=True)
class TableRow:
    """One policy on one task, or over all common ones."""

    task: str
    policy: str
    successes: int
    num_counted: int
    interval: Interval
    """Clopper-Pearson; [0, 1] without a counted episode."""
    letters: str
    """Policies that share one are not told apart."""


def table_rows(comparison: Comparison, confidence: float) -> list[TableRow]:
    """Tasks by name and then the aggregate, each with the best rate first.

    Raises:
        ValueError: a confidence outside (0, 1).
    """
    panels = [(panel.tasks[0], panel) for panel in comparison.task_panels]
    if comparison.aggregate is not None:
        panels.append((AGGREGATE_NAME, comparison.aggregate))
    return [row for task, panel in panels for row in _rows(task, panel, confidence)]


def letters_document(rows: Sequence[TableRow]) -> dict[str, dict[str, Mapping[str, object]]]:
    """As JSON: {task: {policy: {"successes", "n", "interval", "letters"}}}."""
    document: dict[str, dict[str, Mapping[str, object]]] = {}
    for row in rows:
        document.setdefault(row.task, {})[row.policy] = {
            "successes": row.successes,
            "n": row.num_counted,
            "interval": list(row.interval),
            "letters": row.letters,
        }
    return document


def table_text(rows: Sequence[TableRow], table_format: TableFormat) -> str:
    """The rows with headings, ending with a newline."""
    if table_format == "csv":
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(_HEADINGS)
        writer.writerows(_exact(row) for row in rows)
        return text.getvalue()
    cells = [list(_HEADINGS), *(_rounded(row) for row in rows)]
    if table_format == "markdown":
        cells = [[cell.replace("\\", "\\\\").replace("|", "\\|") for cell in row] for row in cells]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADINGS))]
    lines = [[_aligned(cell, i, widths[i]) for i, cell in enumerate(row)] for row in cells]
    if table_format == "text":
        return "".join("  ".join(line).rstrip() + "\n" for line in lines)
    rule = [
        "-" * width if column < _NUM_NAMES else "-" * (width - 1) + ":"
        for column, width in enumerate(widths)
    ]
    return "".join(f"| {' | '.join(line)} |\n" for line in [lines[0], rule, *lines[1:]])


def _rows(task: str, panel: Panel, confidence: float) -> list[TableRow]:
    return [
        TableRow(
            task=task,
            policy=count.policy,
            successes=count.successes,
            num_counted=count.num_counted,
            interval=clopper_pearson(count.successes, count.num_counted, confidence),
            letters=panel.letters[count.policy],
        )
        for count in panel.counts
    ]


def _exact(row: TableRow) -> list[object]:
    rate = row.successes / row.num_counted if row.num_counted else ""
    return [row.task, row.policy, row.successes, row.num_counted, rate, *row.interval, row.letters]


def _rounded(row: TableRow) -> list[str]:
    rate = f"{row.successes / row.num_counted:.1%}" if row.num_counted else "-"
    bounds = [f"{bound:.1%}" for bound in row.interval]
    counts = [str(row.successes), str(row.num_counted)]
    return [row.task, row.policy, *counts, rate, *bounds, row.letters]


def _aligned(cell: str, column: int, width: int) -> str:
    return cell.ljust(width) if column < _NUM_NAMES else cell.rjust(width)
