"""What a view puts on its page: words, figures, and tables that can also be taken away."""

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape

from step_analysis.dashboard.query import Query
from step_analysis.report.drawing import Drawing
from step_analysis.report.figures.layout import NARROW_PIXELS, WIDE_PIXELS, Frame
from step_analysis.report.gallery import FIGURE_FORMATS, Figure
from step_analysis.report.palette import policy_role
from step_analysis.report.svg import svg_element

Cell = str | int | float | bool | None

_FORMULA_BEGINNINGS = ("=", "+", "-", "@", "\t", "\r")


@dataclass(frozen=True, kw_only=True)
class DataTable:
    """Numbers as they are, for a program or a spreadsheet."""

    columns: tuple[str, ...]
    rows: tuple[tuple[Cell, ...], ...]

    def to_csv(self) -> str:
        """With a line of headings; no text begins as a spreadsheet's formula does."""
        file = io.StringIO()
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(self.columns)
        writer.writerows([_plain(cell) for cell in row] for row in self.rows)
        return file.getvalue()

    def to_json_value(self) -> list[dict[str, Cell]]:
        """An object a row."""
        return [dict(zip(self.columns, row, strict=True)) for row in self.rows]


def _plain(cell: Cell) -> Cell:
    if isinstance(cell, str) and cell.startswith(_FORMULA_BEGINNINGS):
        return f"'{cell}"
    return cell


class Canvas:
    """A view in the making.

    Args:
        view: the view's name, which its exports carry.
        indices: every policy's index by name, over the whole folder, which sets its colour.
    """

    def __init__(self, view: str, query: Query, indices: Mapping[str, int]) -> None:
        self.view = view
        self.query = query
        self.indices = indices
        self.figures: dict[str, Figure] = {}
        self.tables: dict[str, DataTable] = {}
        self._parts: list[str] = []
        self._tip_numbers: dict[str, int] = {}

    @property
    def html(self) -> str:
        return "\n".join(filter(None, self._parts))

    @property
    def tips(self) -> list[str]:
        """What the figures say when pointed at, by number."""
        return list(self._tip_numbers)

    def put(self, html: str) -> None:
        """HTML as it is: what comes from a file must be escaped already."""
        self._parts.append(html)

    def heading(self, text: str) -> None:
        self.put(f"<h2>{escape(text)}</h2>")

    def lead(self, text: str) -> None:
        """A sentence below a heading."""
        self.put(f'<p class="lead">{escape(text)}</p>')

    def figure(self, name: str, description: str, draw: Callable[[Frame], Drawing]) -> None:
        """A figure in both widths. `description` is what a reader who can't see it is told."""
        wide, narrow = (
            draw(Frame(width=width, indices=self.indices, confidence=self.query.confidence))
            for width in (WIDE_PIXELS, NARROW_PIXELS)
        )
        self.figures[name] = Figure(name=name, description=description, wide=wide, narrow=narrow)
        drawings = "".join(
            svg_element(drawing, self._tip_number, kind)
            for kind, drawing in (("wide", wide), ("narrow", narrow))
        )
        links = " ".join(
            f'<a href="{escape(self.query.address(f"/figure/{self.view}/{name}.{suffix}"))}" '
            f'aria-label="{escape(name)} as {suffix.upper()}">{suffix.upper()}</a>'
            for suffix in FIGURE_FORMATS
        )
        self.put(
            f'<figure id="{name}">{drawings}<figcaption>{escape(description)} '
            f'<span class="files">{links}</span></figcaption></figure>'
        )

    def data(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
        """A table to be taken away; it is not shown."""
        self.tables[name] = DataTable(
            columns=tuple(columns), rows=tuple(tuple(row) for row in rows)
        )

    def swatch(self, policy: str) -> str:
        """The policy's name behind a dot in its colour."""
        role = policy_role(self.indices[policy])
        return f'<i class="swatch" style="--colour:var(--{role})"></i>{escape(policy)}'

    def _tip_number(self, tip: str) -> int:
        return self._tip_numbers.setdefault(tip, len(self._tip_numbers))
