"""Tables of the page: cells of HTML, escaped already, and what a reader can sort by."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from step_analysis.report.palette import policy_role


class Column(NamedTuple):
    """A column's heading and its class in the style sheet; numbers have none."""

    html: str
    kind: str = ""
    policies: tuple[int, ...] = ()


@dataclass(frozen=True, kw_only=True)
class Row:
    """Cells in the order of the columns; `policies` are those that the row is about."""

    cells: Sequence[str]
    policies: tuple[int, ...] = ()


def table(columns: Sequence[Column], rows: Iterable[Row], *, sortable: bool = True) -> str:
    """A table that scrolls sideways where it is too wide."""
    head = "".join(
        f'<th scope="col"{_kind(column)}{about(column.policies)}>{column.html}</th>'
        for column in columns
    )
    body = "\n".join(_row(row, columns) for row in rows)
    kind = ' class="sortable"' if sortable else ""
    return (
        f'<div class="wide"><table{kind}><thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(row: Row, columns: Sequence[Column]) -> str:
    cells = "".join(
        f"<td{_kind(column)}{about(column.policies)}>{cell}</td>"
        for cell, column in zip(row.cells, columns, strict=True)
    )
    return f"<tr{about(row.policies)}>{cells}</tr>"


def _kind(column: Column) -> str:
    return f' class="{column.kind}"' if column.kind else ""


def about(policies: Sequence[int]) -> str:
    """The attribute that names what an element is about, by index."""
    return f' data-p="{" ".join(map(str, policies))}"' if policies else ""


def swatch(index: int) -> str:
    """A dot in a policy's colour."""
    return f'<i class="swatch" style="--colour:var(--{policy_role(index)})"></i>'
